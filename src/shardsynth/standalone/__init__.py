"""Files, signals, CPUs, images: what any program needs that writes safely and stops in time.

Imports nothing of ours but ``errors`` and ``_version``.
"""
