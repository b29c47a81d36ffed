"""Training: what happens inside a step and around it."""
