"""Spark: the session, steps and quality checks, streams."""
