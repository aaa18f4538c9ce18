"""Random streams, identifiers, conditions and constraints: what any model needs to make rows.

Knows no model. Imports ``summaries``, ``data``, ``job`` and ``errors``.
"""
