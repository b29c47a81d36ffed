"""Loop: what happens around a step: stops, checkpoints, health, ranks."""
