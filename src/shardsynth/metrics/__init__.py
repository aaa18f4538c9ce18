"""Quality, privacy and utility figures."""
