"""Steps that run as somebody: a role of the warehouse for each attempt, and an environment without the worker's secrets."""
