"""The process that reads all metrics, evaluates the alerts of pipelines/alerts.yaml, and has people told."""
