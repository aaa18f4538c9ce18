"""SDV's own synthesizers as an engine, and what goes to and comes from them."""
