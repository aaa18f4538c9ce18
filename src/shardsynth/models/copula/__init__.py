"""The native Gaussian copula: fitted from counts, drawn in exact integers.

Imports ``models.columns`` and ``models.dp``, no other family.
"""
