"""The autoregressive model over the codes of a table.

Imports ``models.columns``, ``models.training`` and ``models.dp``, no other family.
"""
