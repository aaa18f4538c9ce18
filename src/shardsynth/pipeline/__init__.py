"""Plan, tasks, run directory and dispatch."""
