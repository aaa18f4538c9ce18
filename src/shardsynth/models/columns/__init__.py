"""One column: fitting it, and what a model keeps of it (marginals, relations, options, files); shared by all families.

Imports no family.
"""
