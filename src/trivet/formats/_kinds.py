"""What an object is, told without importing the library that its class comes from."""

from __future__ import annotations


def is_a(model: object, *classes: str) -> bool:
    """Say whether an object's class, or one that it extends, has one of these full names."""
    return any(f"{kind.__module__}.{kind.__qualname__}" in classes for kind in type(model).__mro__)
