"""Synthetic tables from sharded Parquet, on Slurm and GPU clusters, with SDV's models."""

__version__ = "0.1.0"
