"""The run directory: its paths, how a task commits, which tasks are missing, what earlier stages wrote.

Imports ``planning`` and what is below.
"""
