"""The application: peers, sync, REST, event stream, verification workers, miner client, devnet, explorer, CLI."""
