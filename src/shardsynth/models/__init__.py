"""Models of one table: fitting, model files, drawing.

A model knows nothing of files of rows, of runs or of Slurm. ``families`` is the one list of them.
"""
