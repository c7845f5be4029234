"""How a Kafka cluster is reached, and what it says of itself."""
