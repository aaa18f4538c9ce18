"""Integer summaries of a table that can be merged: profiles, counts, ranges, row samples.

Each is a commutative monoid: ``merge`` gives the same result in any order. It imports ``data`` and ``errors``.
"""
