"""Spark: the session, steps and quality checks; later streams."""
