"""Mergeable integer summaries of a table: profiles, counts, ranges, row samples.

Each is a monoid (``update``, ``merge``, ``save``, ``load``). Imports ``data`` and ``errors``.
"""
