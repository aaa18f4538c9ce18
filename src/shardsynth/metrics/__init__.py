"""Figures: quality, diagnostic, privacy, utility.

Tables and counts in, numbers out; writes nothing. Imports ``summaries``, ``data``, ``job`` and ``errors``.
"""
