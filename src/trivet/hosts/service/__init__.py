"""Service: models behind an endpoint that is always up."""
