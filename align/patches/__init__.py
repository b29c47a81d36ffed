"""Patches: what is replaced or relied on in other libraries though they never promised it; all may import it."""
