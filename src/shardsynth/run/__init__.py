"""The run directory: where things lie, how a task commits, what is missing, what earlier stages wrote.

Imports ``planning`` and what is below.
"""
