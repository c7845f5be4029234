"""The SQL warehouse: engine, bulk load, offsets, and tables for Spark."""
