"""Numbers about what runs."""
