"""The keys that encrypt data: their versions, the file they are in, and the root key that protects the file."""
