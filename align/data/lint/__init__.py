"""Lint: rows that cannot teach, stand twice, or leak."""
