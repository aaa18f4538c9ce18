"""What each stage does: one function per stage, reading committed files and committing its own.

Knows nothing of who runs it. Imports ``sources`` and what is below.
"""
