"""SDV's constraints: rows that satisfy them by construction, or else by rejection. Start reading at ``table``."""
