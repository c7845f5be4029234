"""Secrets, certificates, keys, encryption, policies and the audit log."""
