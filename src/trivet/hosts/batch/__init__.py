"""Batch: a model scored by interval, from a database into the results."""
