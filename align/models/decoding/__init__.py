"""Decoding: the one decoder of the library."""
