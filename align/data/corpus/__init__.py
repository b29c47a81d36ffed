"""Corpus: books and plays, who says what in them, and what is quoted."""
