"""GRPO: what its trainer needs beside TRL."""
