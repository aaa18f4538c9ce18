"""The HTML page: what is drawn and said of figures that are there already.

Computes no figure of its own. Imports ``summaries``, ``data``, ``job``, ``standalone`` and ``errors``.
"""
