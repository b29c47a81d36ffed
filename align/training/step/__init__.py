"""Step: one forward of policy and reference, and its loss."""
