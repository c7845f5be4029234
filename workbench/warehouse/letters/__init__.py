"""Dead letters in the warehouse: encrypted, looked at, dropped, brought under another key."""
