"""The miner client: takes templates from nodes, has them trained in a process of its own, submits blocks."""
