"""A fitted model as a source of rows by their global numbers, and the parts that they are written to.

Imports ``run`` and what is below.
"""
