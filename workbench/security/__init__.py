"""Secrets, certificates and the audit log; later keys, encryption and policies."""
