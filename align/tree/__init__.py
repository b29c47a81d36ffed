"""Tree: one prompt, many answers, each token computed once; imports nothing of ours but errors."""
