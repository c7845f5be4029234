"""Spark: the session, and later the steps, quality checks and streams."""
