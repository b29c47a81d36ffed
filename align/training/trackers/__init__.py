"""Trackers: metrics for dashboards, from a process of their own."""
