"""A flow that is kept running: its process, its files, and what follows when it ends."""
