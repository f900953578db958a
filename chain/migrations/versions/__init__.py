"""Schema revisions of the chain store, oldest first by their down_revision links."""
