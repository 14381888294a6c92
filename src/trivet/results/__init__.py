"""The results database: runs, published predictions, rejects and profiles."""
