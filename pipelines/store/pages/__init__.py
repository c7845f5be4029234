"""What people and commands look at: plain values, ready for JSON, each page by a few queries however long the history is."""
