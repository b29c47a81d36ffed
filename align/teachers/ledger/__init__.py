"""Ledger: nothing is bought twice, and what it cost."""
