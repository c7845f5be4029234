"""Flows that a worker keeps running."""
