"""Text: what several layers ask of a piece of text; imports nothing of ours but errors."""
