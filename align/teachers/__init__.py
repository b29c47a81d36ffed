"""Teachers: who answers a prompt."""
