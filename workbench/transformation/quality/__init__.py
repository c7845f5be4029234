"""Expectations declared beside a table, and checked in one pass over it: on Spark, or in the warehouse."""
