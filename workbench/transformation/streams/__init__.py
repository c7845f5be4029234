"""Structured Streaming, supervised: for what looks at several records, such as windows, sessions and duplicates."""
