"""Data builders: pairs and tasks from prompts, one builder a file; meet the recipes in a file of rows."""
