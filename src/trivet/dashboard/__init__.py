"""The dashboard: pages over the results database, which it reads and nothing else."""
