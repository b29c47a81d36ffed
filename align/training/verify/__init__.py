"""Verify: proves losses and routes on this machine."""
