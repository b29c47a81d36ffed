"""Evaluation: did the model get better, by how much, and is it sure."""
