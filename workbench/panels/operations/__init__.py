"""The panel of Spark: where it runs, and what it does for this kernel."""
