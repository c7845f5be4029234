"""What a monitor needs: where the metrics of each process are, how they are read, and what is kept of them."""
