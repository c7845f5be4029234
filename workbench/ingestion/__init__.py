"""Kafka topics into warehouse tables, each record exactly once."""
