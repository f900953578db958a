"""What is known of other nodes: those connected with, and the addresses of those that could be."""
