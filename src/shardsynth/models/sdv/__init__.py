"""SDV's own synthesizers as an engine; export of native models to SDV, and import of SDV's models.

Only this folder of ``models`` imports sdv, rdt, copulas and ctgan; it may import every family.
"""
