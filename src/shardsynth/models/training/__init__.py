"""Parts that all trained models share: checkpoints, early stopping, threads, device, averaged weights.

Imports no family.
"""
