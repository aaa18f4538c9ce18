"""The HTML page: it draws figures that were computed before, and puts them into words.

It computes no figure itself. Imports ``summaries``, ``data``, ``job``, ``standalone`` and ``errors``.
"""
