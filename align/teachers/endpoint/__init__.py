"""Endpoint: teachers over the network."""
