"""Policies as statements of a server's own access control."""
