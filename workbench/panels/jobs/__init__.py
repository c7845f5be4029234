"""The panel of pipelines: pick one, give it values, run it, and see what becomes of it."""
