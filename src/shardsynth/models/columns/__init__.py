"""One column, fitted and kept: marginals, relations, options, files; shared by all native families.

Imports no family.
"""
