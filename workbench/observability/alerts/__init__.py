"""Alerts on metrics: conditions over named quantities, with the semantics of Prometheus' alerting rules."""
