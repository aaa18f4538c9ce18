"""What trainings share: checkpoints, early stopping, threads, device, averaged weights.

Imports no family.
"""
