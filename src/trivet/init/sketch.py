"""What a new project is about: its model, and the table that its rows come from."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

Part = Literal["batch", "service", "stream"]

PARTS: tuple[Part, ...] = ("batch", "service", "stream")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sketch:
    """A new project.

    Attributes:
        project: Its name.
        parts: What it deploys the model as.
        model: The model's name.
        title: What it predicts, in a few words.
        trust: Whether its artifact carries code.
        table: The table with its rows.
        key: The column that names a row.
        at: The column that says when it came to be.
        inputs: The columns that the model reads.
        truth: The column with the true value, empty for none.
        row: A row, as a request has it.
        topic: The topic of the rows that come as events.
    """

    project: str
    parts: tuple[Part, ...]
    model: str
    title: str
    trust: bool
    table: str
    key: str
    at: str
    inputs: Sequence[str]
    truth: str
    row: dict[str, Any]
    topic: str

    def toml(self, today: dt.date) -> str:
        """Return the text of ``trivet.toml``."""
        parts = [self._head()]
        if "batch" in self.parts:
            parts.append(self._batch(today))
        if "service" in self.parts:
            parts.append(self._service())
        if "stream" in self.parts:
            parts.append(self._stream())
        return "\n".join(parts)

    def request(self) -> str:
        """Return the JSON of a request."""
        return json.dumps({self.key: 1, **self.row}, default=str)

    def _head(self) -> str:
        trust = (
            "trust = true                   # its artifact carries Python code, your own\n"
            if self.trust
            else ""
        )
        return f"""\
[project]
name = "{self.project}"

[results]                      # predictions, rejects and the ledger of runs go here
url = "sqlite:///data/results.db"

[models.{self.model}]
uri = "models/{self.model}"     # the version in use: trivet model list
{trust}"""

    def _batch(self, today: dt.date) -> str:
        text = f"""\
[batch.{self.model}]           # every night, the rows of the day before
model = "{self.model}"
source = "sqlite:///data/source.db"
query = "sql/{self.table}.sql"
key = ["{self.key}"]
schedule = "@daily"
start = {today - dt.timedelta(days=5)}
catchup = "all"
"""
        if self.truth:
            text += f"""
[actuals.{self.model}]         # what came true, held against what was predicted
source = "sqlite:///data/source.db"
query = "sql/{self.truth}.sql"
value = "{self.truth}"
"""
        return text

    def _service(self) -> str:
        return f"""\
[service]                      # POST /predict/{self.model}
models = ["{self.model}"]
key = ["{self.key}"]
port = 8080
"""

    def _stream(self) -> str:
        return f"""\
[broker]                       # the embedded one; or kafka://localhost:9092
url = "sqlite:///data/events.db"

[stream.live-{self.model}]
model = "{self.model}"
topic = "{self.topic}"
key = ["{self.key}"]

[up.sender]                    # stands for whoever sends you events
command = "python send_{self.table}.py"
"""
