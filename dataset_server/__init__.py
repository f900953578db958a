"""Datasets as content-addressed chunks: importers, server and verifying client."""
