"""Dialogue: a character's lines from a book against what the student says there."""
