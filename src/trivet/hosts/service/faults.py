"""What goes wrong with a request, before any protocol has words for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trivet.errors import TrivetError

Problem = tuple[str, str, str]
"""Field (empty: the whole row), code and reason."""


class Refused(TrivetError):
    """A request that is not served.

    Attributes:
        kind: One of the keys of `HTTP`.
        detail: What is wrong with this request.
    """

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail


class BadRows(TrivetError):
    """Rows that break the input schema, where the protocol has no place for single ones."""

    def __init__(self, problems: Mapping[int, Sequence[Problem]]) -> None:
        super().__init__("rows that break the model's input schema")
        self.problems = problems


HTTP: Mapping[str, tuple[int, str]] = {
    "bad_request": (400, "The request cannot be understood"),
    "unauthorized": (401, "An API key is needed"),
    "not_found": (404, "There is nothing of that name"),
    "method": (405, "That method is not for this address"),
    "slow": (408, "The request came too slowly"),
    "too_large": (413, "The request is too large"),
    "media_type": (415, "That content type is not read here"),
    "bad_rows": (422, "Rows break the model's input schema"),
    "model": (500, "The model failed"),
    "busy": (503, "Too many rows are waiting"),
    "not_ready": (503, "The model is not ready"),
    "late": (504, "The deadline has passed"),
}
"""Kind of fault to HTTP status and title; other protocols map the kinds to their own."""
