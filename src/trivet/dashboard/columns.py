"""The columns of a deployment's predictions: which are keys, kept ones, outputs, and which ours."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trivet.dashboard import words
from trivet.dashboard.ask import Ask

_OURS = frozenset(
    {
        "interval_start",
        "interval_end",
        "attempt",
        "model_name",
        "model_version",
        "model_digest",
        "scored_at",
        "source",
        "id",
        "seconds",
        "inputs",
        "event_at",
    }
)
_WHOLE = ("int", "bool")
_NUMBERS = (*_WHOLE, "real", "double", "numeric")


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a deployment.

    Attributes:
        types: Every column of its view and its type in the database.
        key: Those that name a row.
        kept: Those copied beside the predictions.
        outputs: Those that the model gave.
        manifest: What is known of its model.
    """

    types: Mapping[str, str]
    key: tuple[str, ...]
    kept: tuple[str, ...]
    outputs: tuple[str, ...]
    manifest: Mapping[str, Any]

    @classmethod
    def of(cls, ask: Ask, deployment: Mapping[str, Any]) -> Columns:
        """Read the columns of a deployment's view and what was registered of them."""
        view = deployment["view_name"]
        rows = ask.source.rows("columns", package="trivet.results", table=view)
        types = {row["name"]: row["type"] for row in rows}
        told = ask.source.first("manifest", deployment=deployment["name"])
        manifest = words.parsed(told.get("manifest"), {}) or {}
        key = tuple(json.loads(deployment["key_columns"] or "[]"))
        kept = tuple(json.loads(deployment["keep_columns"] or "[]"))
        named = [field["name"] for field in manifest.get("outputs", ())]
        beside = {*key, *kept, *_OURS}
        others = [name for name in types if name not in beside]
        # A classifier's columns may be made of its output; the view is right in any case.
        outputs = tuple([n for n in named if n in types] or others)
        return cls(types, key, kept, outputs, manifest)

    @property
    def main(self) -> str:
        """The output to show unless asked otherwise: of two classes, the second one's score."""
        scores = [name for name in self.outputs if name.startswith("probability_")]
        return scores[1] if len(scores) == 2 else self.outputs[0]

    @property
    def shown(self) -> list[str]:
        """The columns of a table of predictions: keys, kept ones, outputs."""
        every = [*self.key, *self.kept, *self.outputs]
        return [name for name in dict.fromkeys(every) if name in self.types]

    def is_number(self, name: str) -> bool:
        """Say whether a column has numbers."""
        return self._is(name, _NUMBERS)

    def groupings(self) -> dict[str, tuple[str, str]]:
        """Return what predictions can be broken down by: a name to a column and a part of it."""
        found: dict[str, tuple[str, str]] = {}
        text_outputs = [n for n in self.outputs if not self._is(n, ("real", "double", "numeric"))]
        for name in dict.fromkeys([*self.kept, *text_outputs, *self.key]):
            if name not in self.types:
                continue
            if self._is(name, ("time",)) or self._has_moments(name):
                found |= {f"{name}: {part}": (name, part) for part in ("hour", "weekday", "month")}
            elif not self._is(name, ("real", "double", "numeric")):
                found[name] = (name, "")
        return found

    @property
    def usual_grouping(self) -> str:
        """What to break down by unless asked otherwise: no key that names a row alone."""
        alone = self.key if len(self.key) == 1 else ()
        return next((name for name in self.groupings() if name not in alone), "")

    def _is(self, name: str, kinds: tuple[str, ...]) -> bool:
        return any(kind in self.types.get(name, "") for kind in kinds)

    def _has_moments(self, name: str) -> bool:
        """Say whether an input of that name is a moment: SQLite keeps them as text."""
        kinds = {field["name"]: field["type"] for field in self.manifest.get("inputs", ())}
        return kinds.get(name) == "timestamp" or (
            self._is(name, ("text",)) and name.endswith(("_at", "_time", "_date"))
        )
