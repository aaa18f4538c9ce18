"""SDV's constraints, kept by construction; see ``table``."""
