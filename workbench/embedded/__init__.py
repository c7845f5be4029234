"""Real servers for one machine: Kafka, PostgreSQL and Spark Connect. Nothing here is simulated."""
