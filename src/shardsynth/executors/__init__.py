"""Who runs tasks, this machine (``local``) or a cluster (``slurm``), and how far a run is.

The one folder that imports submitit.

Imports ``stages`` and what is below.
"""
