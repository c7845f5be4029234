"""The Spark lane of flows: executors read, decode and write; the ledger of the Arrow lane says how far they are."""
