"""Store: what is written to disk, whole or as it was."""
