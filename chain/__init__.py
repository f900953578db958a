"""The local chain: SQLite store, fork choice, reorganisation, mempool, keys and keystore."""
