"""The parts of the identity provider that tests control."""
