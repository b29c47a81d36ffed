"""Proof: is it the model we mean, and did it move."""
