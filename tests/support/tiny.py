"""A supervisor of tiny commands, at work in a thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from trivet.errors import UpError
from trivet.up.board import Board, State, Status, Word
from trivet.up.plan import Process
from trivet.up.supervisor import Around, Supervisor


class Running:
    """A supervisor at work in a thread, and what was heard of it."""

    def __init__(self, root: Path, board: Board, plan: list[Process]) -> None:
        self.lines: list[tuple[str, str]] = []
        self.changes: list[tuple[str, Word]] = []
        self.failed: UpError | None = None
        around = Around(
            project="tiny",
            root=root,
            environment={"PATH": "/usr/bin:/bin", "LANG": "C"},
            board=board,
            listener=self,
        )
        self.supervisor = Supervisor(plan, around)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.supervisor.run()
        except UpError as error:
            self.failed = error

    def line(self, name: str, text: str) -> None:
        self.lines.append((name, text))

    def changed(self, state: State, before: Word) -> None:
        self.changes.append((state.name, state.state))

    @property
    def status(self) -> Status:
        return self.supervisor.status

    def state(self, name: str) -> State:
        return next(state for state in self.status.processes if state.name == name)

    @property
    def over(self) -> bool:
        return not self._thread.is_alive()

    def join(self) -> None:
        self._thread.join()

    def stop(self) -> None:
        self.supervisor.stop()
        self.join()


Start = Callable[..., Running]
