"""Formats: other libraries' rows."""
