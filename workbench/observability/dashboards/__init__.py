"""What is shown of the last day and of the objectives: declared once, for our own page and for Grafana."""
