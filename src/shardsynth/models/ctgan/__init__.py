"""CTGAN, CopulaGAN and TVAE, trained natively.

Imports ``models.columns`` and ``models.training``, no other family.
"""
