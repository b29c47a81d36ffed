"""Core: what all builders share."""
