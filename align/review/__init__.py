"""Review: where a person checks pairs, and what the labels say about the pairs that nobody checked."""
