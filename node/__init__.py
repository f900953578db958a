"""The application: node, miner client, devnet and command line. May import every other package."""
