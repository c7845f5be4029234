"""Secrets, and later keys, encryption, audit and policies."""
