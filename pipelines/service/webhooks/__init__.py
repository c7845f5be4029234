"""Requests from outside that start runs: signed by whoever has the secret of a pipeline, and nobody else's.

The scheme is that of Standard Webhooks 1.0.0 with a symmetric secret (github.com/standard-webhooks). Its library
is not used: it takes text only, and raises whatever comes of headers that are malformed.
"""
