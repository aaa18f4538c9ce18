"""SDV's own synthesizers as an engine; native models as theirs, and theirs as native ones.

The folder of ``models`` that imports sdv, rdt, copulas and ctgan; it may import every family.
"""
