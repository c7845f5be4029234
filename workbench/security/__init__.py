"""Secrets, certificates, keys, encryption and audit; policies later."""
