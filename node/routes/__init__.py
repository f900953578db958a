"""The routes of the REST interface, a file per subject."""
