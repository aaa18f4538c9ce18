"""From a job and the footers of its shards to a plan; what cannot be done is said here, before any task.

Writes nothing, runs nothing. Imports ``models`` and what is below.
"""
