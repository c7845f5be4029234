"""Measurements, each beside what it is compared with; none of them is a test."""
