"""Brokers: events kept in order, for as many readers as like."""
