"""Tasks on this machine: a pool of our own, or submitit's local and debug executors."""
