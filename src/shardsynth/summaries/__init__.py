"""Mergeable integer summaries of a table."""
