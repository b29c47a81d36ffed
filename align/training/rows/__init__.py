"""Rows: text → token ids and what carries loss, checked before training."""
