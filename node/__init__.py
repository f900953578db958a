"""The application: peers, sync, REST, event stream, workers, miner client, devnet, explorer, CLI."""
