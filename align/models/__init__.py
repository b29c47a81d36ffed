"""Models: a model's name → something loadable, and what it gives a text."""
