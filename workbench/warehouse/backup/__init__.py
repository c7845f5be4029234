"""Encrypted backups of the embedded warehouse and of what lies around it, and the way back to any moment between."""
