"""Shards in, schema, codes: what a table looks like, before any model."""
