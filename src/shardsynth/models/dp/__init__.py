"""Differential privacy: noise, noisy tables, accounting; shared by the families that support it.

Imports ``models.columns``, no family.
"""
