"""Fuzz: many damaged or odd inputs from fixed seeds; each gives a right result or one clear error.

A subject is a module of its own (see ``frame.Subject``) and stands in ``SUBJECTS``. ``test_fuzz.py`` makes 300 tries of
each in one process, ``benchmarks/fuzz.py`` 10,000.
"""
