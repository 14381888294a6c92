"""An answer written as soon as its batch has it, where a task a request would cost more than it."""

from __future__ import annotations

from collections.abc import Callable

from trivet.hosts.service.batcher import Answer
from trivet.hosts.service.exchange import Reply
from trivet.hosts.service.protocols import records
from trivet.hosts.service.serving import Served


class Straight:
    """Takes the answer for one row, as a future would; see `trivet.hosts.service.batcher.Awaited`.

    Args:
        served: The model that was asked.
        name: The request's id.
        end: Writes a reply.
        fail: Writes what an exception means.
    """

    __slots__ = ("_done", "_end", "_fail", "_name", "_served")

    def __init__(
        self,
        served: Served,
        name: str,
        end: Callable[[Reply], None],
        fail: Callable[[Exception], None],
    ) -> None:
        self._served = served
        self._name = name
        self._end = end
        self._fail = fail
        self._done = False

    def done(self) -> bool:
        return self._done

    def set_result(self, result: Answer, /) -> None:
        self._done = True
        try:
            reply = records.written(result, self._served, self._name)
        except Exception as error:  # noqa: BLE001 - the other requests of the batch want theirs
            self._fail(error)
        else:
            self._end(reply)

    def set_exception(self, exception: BaseException, /) -> None:
        self._done = True
        assert isinstance(exception, Exception)
        self._fail(exception)
