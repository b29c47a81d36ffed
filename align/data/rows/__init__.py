"""Rows: what a row is."""
