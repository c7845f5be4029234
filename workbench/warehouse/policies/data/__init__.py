"""What leaves tables because policies say so: rows that are too old, and those of who is to be forgotten."""
