"""Batch scoring beside the scripts that people write, in one run; see ../README.md."""
