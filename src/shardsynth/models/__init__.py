"""Models of a table; they know nothing of files, runs or Slurm."""
