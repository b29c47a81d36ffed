"""Files: reading and writing rows."""
