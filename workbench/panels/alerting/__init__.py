"""The panel of alerts: which fire, what the others are at, and who is not to be told."""
