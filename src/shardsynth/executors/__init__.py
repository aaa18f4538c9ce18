"""Who runs tasks: this machine (``local``) or a cluster (``slurm``). The one folder that imports submitit.

Imports ``stages`` and what is below.
"""
