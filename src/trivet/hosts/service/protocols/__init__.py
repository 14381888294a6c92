"""Wire protocols: each turns its bytes into rows and an answer into bytes, and nothing else."""
