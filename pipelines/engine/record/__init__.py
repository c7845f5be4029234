"""What an execution leaves behind: a log of events, and the notebook that is built from it."""
