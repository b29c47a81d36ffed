"""Rewards: a number for one completion."""
