"""Which notebook runs when; papermill injects the parameters and runs it."""
