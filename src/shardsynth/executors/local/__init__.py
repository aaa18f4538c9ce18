"""Tasks on this machine: a pool of worker processes, or submitit's local and debug executors."""
