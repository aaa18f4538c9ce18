"""Figures: quality, diagnostic, privacy, attacks, detection, utility and survival.

Each module computes numbers from tables or counts, and writes nothing.
Imports ``summaries``, ``data``, ``job`` and ``errors``.
"""
