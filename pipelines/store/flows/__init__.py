"""Flows as long-running processes: which are wanted, who runs them, and how they stand."""
