"""Random streams, identifiers, conditions and constraints: what every model needs to draw rows.

No module here knows a model. Imports ``summaries``, ``data``, ``job`` and ``errors``.
"""
