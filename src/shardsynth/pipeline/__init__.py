"""The old place of ``executors.slurm.element``: jobs that are queued and scripts of before still call it.

Nothing else may stand here, and nothing may import it.
"""
