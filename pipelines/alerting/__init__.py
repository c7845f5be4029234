"""Tells people of the ends of runs, through the channels of pipelines/alerts.yaml."""
