"""What proves that the log is as it was written: signed checkpoints, their second place, and the check of it all."""
