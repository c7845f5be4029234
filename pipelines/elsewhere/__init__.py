"""Runs that another engine schedules, such as Airflow or Kubernetes: it decides when, our runner executes, our store records."""
