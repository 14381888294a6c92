"""An answer written as soon as its batch has it, where a task a request would cost more than it."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import Any

from trivet.hosts.service.answers import Answer
from trivet.hosts.service.exchange import Reply, Write
from trivet.hosts.service.protocols import records
from trivet.hosts.service.serving import Served


class Straight:
    """A request for one row: takes its answer as a future would, `batcher.Awaited`.

    Args:
        served: The model that was asked.
        name: The request's id.
        began: When it came, by `time.monotonic`.
        scope: The request, as ASGI has it.
        write: Writes a whole answer.
        place: Where to: the first argument of `write`.
        end: Has a reply written.
        fail: Has written what an exception means.
    """

    __slots__ = ("_done", "_end", "_fail", "began", "name", "place", "scope", "served", "write")

    def __init__(
        self,
        served: Served,
        name: str,
        began: float,
        scope: MutableMapping[str, Any],
        write: Write,
        place: object,
        end: Callable[[Straight, Reply], None],
        fail: Callable[[Straight, Exception], None],
    ) -> None:
        self.served = served
        self.name = name
        self.began = began
        self.scope = scope
        self.write = write
        self.place = place
        self._end = end
        self._fail = fail
        self._done = False

    def done(self) -> bool:
        return self._done

    def set_result(self, result: Answer, /) -> None:
        self._done = True
        try:
            reply = records.written(result, self.served, self.name)
        except Exception as error:  # noqa: BLE001 - the other requests of the batch want theirs
            self._fail(self, error)
        else:
            self._end(self, reply)

    def set_exception(self, exception: BaseException, /) -> None:
        self._done = True
        assert isinstance(exception, Exception)
        self._fail(self, exception)
