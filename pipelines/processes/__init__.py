"""What the scheduler and the worker have in common as processes: their start, their signs of life, their hints."""
