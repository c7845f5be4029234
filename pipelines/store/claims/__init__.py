"""What workers call: take a step, keep it, write about it, end it; and what takes over the steps of those who are gone."""
