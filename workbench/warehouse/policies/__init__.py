"""Policies in a warehouse: what is there, what has to change, and the roles that people connect as."""
