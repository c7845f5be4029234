"""From a pipeline and what it is to be run for, to a run as the store takes it: checked, typed and pinned.

`runs.Plan` makes runs, `partitions` those of a backfill, `registering` makes them possible. Importing
this package loads nothing: child processes need `bindings` alone, and at once.
"""
