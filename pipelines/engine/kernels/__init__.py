"""Kernels: where they are found, how they run and end, and those that are started ahead."""
