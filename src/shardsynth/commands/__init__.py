"""What the command line does beyond running a job: init, demo, sample, compare.

Imports ``api`` and what is below; the arguments are parsed in ``cli``.
"""
