"""Trust: can this judge be believed."""
