"""Runs from their making to their end: by schedule, by hand, by event, by backfill; stopped, and repaired."""
