"""Tasks as Slurm arrays: scripts, submission, state, causes, and what a site allows."""
