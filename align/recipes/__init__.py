"""Recipes: one training method a file; empty of imports, or `python -m align.recipes.dpo` would load it twice."""
