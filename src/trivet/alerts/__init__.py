"""Alerts: what goes wrong, found in the results database, told once and resolved once."""
