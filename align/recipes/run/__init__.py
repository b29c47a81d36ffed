"""Run: one start of a recipe, from settings to the saved model."""
