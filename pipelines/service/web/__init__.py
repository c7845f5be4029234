"""HTTP: who asks, what is answered, and what browsers are told to refuse."""
