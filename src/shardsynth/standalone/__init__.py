"""Files, signals, CPUs and images: what a program needs to write safely and to stop in time.

Imports nothing of ours but ``errors`` and ``_version``.
"""
