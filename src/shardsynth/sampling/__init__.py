"""Chunk streams, conditions, constraints and identifiers."""
