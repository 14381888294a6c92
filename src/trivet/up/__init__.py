"""Everything of a project at work together: planned, started in order, watched, stopped."""
