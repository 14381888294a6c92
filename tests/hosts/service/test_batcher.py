"""The natural batch, its bounds and what it does about models that do not come back."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pytest

from support.service_models import HeldModel
from trivet.errors import PredictionError
from trivet.hosts.service import batcher as module
from trivet.hosts.service.answers import Answer, Waiting
from trivet.hosts.service.batcher import MAX_LOST, QUICK_ROWS, Batcher, Overloaded, TooLate
from trivet.records import RecordReader
from trivet.scoring import MAX_MODEL_ERRORS
from trivet.testing import FailingModel, LinearModel
from trivet.validation import Decoded, no_problems

FOR_EVER = 1e12
SOON = 0.01


@dataclass(frozen=True, kw_only=True)
class Watched(LinearModel):
    """Notes the sizes of its batches."""

    sizes: list[int] = field(default_factory=list)

    def predict(self, batch: pa.RecordBatch, /) -> pa.RecordBatch:
        self.sizes.append(batch.num_rows)
        return super().predict(batch)


def make(model: Any, *, quick: bool = True, **more: Any) -> Batcher:
    return Batcher(model, RecordReader(model.inputs), quick, **more)


def rows(batcher: Batcher, *values: object) -> list[Any]:
    return [batcher.reader.read_object({"x0": value}) for value in values]


def put(batcher: Batcher, *values: object, deadline: float = FOR_EVER) -> asyncio.Future[Answer]:
    return batcher.submit(rows(batcher, *values), len(values), deadline)


def columns(*values: float) -> Decoded:
    schema = LinearModel().inputs.arrow
    return Decoded(pa.record_batch([pa.array(values)], schema=schema), no_problems())


def told(answer: Answer) -> list[Any]:
    values = answer.batch.values()[0]
    return [None if place < 0 else values[place] for place in answer.places]


def run(steps: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        await asyncio.wait_for(steps(), 30)

    asyncio.run(limited())


@pytest.mark.parametrize("quick", [True, False])
def test_what_arrives_together_is_scored_together(quick: bool) -> None:
    async def steps() -> None:
        model = Watched()
        batcher = make(model, quick=quick)
        answers = await asyncio.gather(put(batcher, 1), put(batcher, 2, 3), put(batcher, 4))
        assert [told(a) for a in answers] == [[1], [2, 3], [4]]
        assert model.sizes == [4]
        assert told(await put(batcher, 5)) == [5]
        batcher.retire()

    run(steps)


def test_what_arrives_while_the_model_is_busy_is_the_next_batch() -> None:
    async def steps() -> None:
        loop, arrived = asyncio.get_running_loop(), asyncio.Event()
        model = HeldModel(
            go=threading.Event(),
            arrived=lambda: loop.call_soon_threadsafe(arrived.set),  # type: ignore[arg-type]
        )
        seen: list[int] = []
        batcher = make(model, quick=False, watch=lambda batch, *_: seen.append(len(batch)))
        first = put(batcher, -1)
        await arrived.wait()
        others = [put(batcher, n) for n in range(5)]
        assert batcher.queued == 5
        model.go.set()
        await asyncio.gather(first, *others)
        assert seen == [1, 5]
        assert batcher.queued == 0
        batcher.retire()

    run(steps)


def test_the_thread_takes_the_next_batch_while_the_event_loop_is_busy() -> None:
    async def steps() -> None:
        loop, arrived = asyncio.get_running_loop(), asyncio.Event()
        calls = threading.Semaphore(0)

        def called() -> None:
            calls.release()
            loop.call_soon_threadsafe(arrived.set)

        model = HeldModel(go=threading.Event(), arrived=called)
        batcher = make(model, quick=False)
        first = put(batcher, -1)
        await arrived.wait()
        assert calls.acquire()
        second = put(batcher, -1)
        model.go.set()
        assert calls.acquire(timeout=30)  # here the event loop does nothing else
        assert [told(a) for a in await asyncio.gather(first, second)] == [[-1], [-1]]
        assert told(await put(batcher, 3)) == [3]
        batcher.retire()

    run(steps)


def test_the_thread_leaves_out_what_it_is_too_late_for() -> None:
    async def steps() -> None:
        loop, arrived = asyncio.get_running_loop(), asyncio.Event()
        model = HeldModel(
            go=threading.Event(),
            arrived=lambda: loop.call_soon_threadsafe(arrived.set),  # type: ignore[arg-type]
        )
        batcher = make(model, quick=False)
        first = put(batcher, -1)
        await arrived.wait()
        soon = time.monotonic() + SOON
        late, good = put(batcher, 2, deadline=soon), put(batcher, 3)
        while time.monotonic() <= soon:  # the event loop has no turn in which to say so itself
            pass
        model.go.set()
        assert [told(a) for a in await asyncio.gather(first, good)] == [[-1], [3]]
        with pytest.raises(TooLate):
            await late
        assert batcher.queued == 0
        batcher.retire()

    run(steps)


def test_a_batch_has_a_size() -> None:
    async def steps() -> None:
        model = Watched()
        batcher = make(model, max_batch=3)
        await asyncio.gather(*(put(batcher, n) for n in range(7)), put(batcher, *range(5)))
        assert model.sizes == [3, 3, 1, 5]

    run(steps)


def test_a_large_batch_leaves_the_event_loop_free() -> None:
    async def steps() -> None:
        where: list[str] = []

        @dataclass(frozen=True, kw_only=True)
        class Tells(LinearModel):
            def predict(self, batch: pa.RecordBatch, /) -> pa.RecordBatch:
                where.append(threading.current_thread().name)
                return super().predict(batch)

        batcher = make(Tells())
        await put(batcher, 1)
        large = put(batcher, *range(300))
        small = put(batcher, 2)
        await asyncio.gather(large, small)
        assert where[0] == where[2] == threading.current_thread().name
        assert where[1].startswith("model-linear-")
        batcher.retire()

    run(steps)


def test_records_and_columns_go_together() -> None:
    async def steps() -> None:
        model = Watched()
        batcher = make(model)
        mixed = batcher.submit(columns(3, 4), 2, FOR_EVER)
        bad = put(batcher, 1, "x")
        answers = await asyncio.gather(bad, mixed)
        assert [told(a) for a in answers] == [[1, None], [3, 4]]
        ((row, problem),) = answers[0].problems
        assert (row, *problem[:2]) == (1, "x0", "type")
        assert not len(answers[1].problems)
        assert told(await batcher.submit(columns(9), 1, FOR_EVER)) == [9]

    run(steps)


def test_a_row_on_which_the_model_raises_is_that_rows_alone() -> None:
    async def steps() -> None:
        batcher = make(FailingModel(on=[13.0]))
        good, bad = await asyncio.gather(put(batcher, 1), put(batcher, 13))
        assert told(good) == [1]
        ((row, problem),) = bad.problems
        assert (row, problem[1]) == (0, "model_error")

    run(steps)


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("error", [SystemExit, MemoryError])
def test_whatever_the_model_raises_its_requests_are_answered(
    quick: bool, error: type[BaseException]
) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Raises(LinearModel):
        def predict(self, batch: pa.RecordBatch, /) -> pa.RecordBatch:
            if error is MemoryError:
                return batch  # not its outputs
            raise error("enough")

    async def steps() -> None:
        batcher = make(Raises(), quick=quick)
        with pytest.raises(PredictionError):
            await put(batcher, 1)
        with pytest.raises(PredictionError):
            await put(batcher, 1)
        batcher.retire()

    run(steps)


def test_the_queue_is_bounded_by_rows() -> None:
    async def steps() -> None:
        batcher = make(Watched(), max_queue=3)
        large = put(batcher, *range(5))  # alone, it may be larger
        with pytest.raises(Overloaded, match="5 rows wait for model linear"):
            put(batcher, 1)
        await large
        await asyncio.gather(put(batcher, 1), put(batcher, 2, 3))

    run(steps)


def test_no_work_is_done_after_the_deadline() -> None:
    async def steps() -> None:
        model = Watched()
        batcher = make(model)
        late = put(batcher, 1, deadline=time.monotonic() - 1)
        left = put(batcher, 2)
        left.cancel()
        with pytest.raises(TooLate, match="model linear gave no answer before the deadline"):
            await late
        assert model.sizes == []
        assert batcher.queued == 0

    run(steps)


def test_who_waits_for_a_busy_model_is_told_at_the_deadline() -> None:
    async def steps() -> None:
        model = HeldModel(go=threading.Event())
        batcher = make(model, quick=False)
        holding = put(batcher, -1)
        with pytest.raises(TooLate):
            await put(batcher, 1, deadline=time.monotonic() + SOON)
        assert not holding.done()
        model.go.set()
        await holding
        batcher.retire()

    run(steps)


def test_a_thread_that_does_not_come_back_is_left_behind() -> None:
    async def steps() -> None:
        model = HeldModel(go=threading.Event())
        batcher = make(model, quick=False)
        for turn in range(1, MAX_LOST + 1):
            batcher.hang_after = SOON
            with pytest.raises(TooLate):
                await put(batcher, -1)
            batcher.hang_after = 30.0
            assert batcher.lost == turn
            if turn < MAX_LOST:
                assert told(await put(batcher, 7)) == [7]
        with pytest.raises(Overloaded, match="does not come back from 4 calls"):
            put(batcher, 7)
        model.go.set()
        while batcher.lost:
            await asyncio.sleep(0)
        assert told(await put(batcher, 7)) == [7]
        batcher.retire()

    run(steps)


def test_with_too_many_threads_lost_those_who_wait_are_told() -> None:
    async def steps() -> None:
        model = HeldModel(go=threading.Event())
        batcher = make(model, quick=False, hang_after=SOON, max_batch=1)
        answers = [put(batcher, -1) for _ in range(MAX_LOST + 3)]
        found = await asyncio.gather(*answers, return_exceptions=True)
        assert [type(error) for error in found] == [TooLate] * len(answers)
        assert batcher.queued == 0
        model.go.set()

    run(steps)


def test_a_model_that_turns_out_slow_gets_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SLOW_SECONDS", -1.0)

    async def steps() -> None:
        batcher = make(Watched())
        for _ in range(module.SLOW_TIMES):
            assert batcher.quick
            await put(batcher, 1)
        assert not batcher.quick
        assert told(await put(batcher, 1)) == [1]
        batcher.retire()

    run(steps)


def test_a_model_whose_machine_was_busy_comes_back_ever_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "SETTLED_TIMES", 3)

    async def asked(batcher: Batcher, times: int) -> None:
        for _ in range(times):
            assert told(await put(batcher, 1)) == [1]

    async def steps() -> None:
        batcher = make(Watched())
        for patience in (3, 6):
            monkeypatch.setattr(module, "SLOW_SECONDS", -1.0)
            await asked(batcher, module.SLOW_TIMES)
            assert not batcher.quick
            await asked(batcher, 2 * patience)  # it is as slow on its thread
            assert not batcher.quick
            monkeypatch.setattr(module, "SLOW_SECONDS", 60.0)
            await asked(batcher, patience - 1)
            assert not batcher.quick
            await asked(batcher, 1)
            assert batcher.quick
        batcher.retire()

    run(steps)


def test_a_watch_sees_every_batch() -> None:
    seen: list[tuple[int, bool, bool]] = []

    def watch(batch: Sequence[Waiting], result: Any, seconds: float) -> None:
        done = all(waiting.answer.done() for waiting in batch)
        seen.append((len(batch), done, seconds >= 0))

    async def steps() -> None:
        batcher = make(LinearModel(), watch=watch)
        await asyncio.gather(put(batcher, 1), put(batcher, 2))
        await put(batcher, 3)

    run(steps)
    assert seen == [(2, True, True), (1, True, True)]


def test_a_watch_that_fails_costs_no_request(caplog: pytest.LogCaptureFixture) -> None:
    def watch(batch: Sequence[Waiting], result: Any, seconds: float) -> None:
        raise OSError("no space left")

    async def steps() -> None:
        batcher = make(LinearModel(), watch=watch)
        assert told(await put(batcher, 1)) == [1]
        assert told(await put(batcher, 2)) == [2]

    run(steps)
    assert caplog.messages == ["a batch of model linear was not counted"] * 2


@pytest.mark.parametrize("quick", [True, False])
def test_rows_on_which_a_model_breaks_are_no_other_requests_fault(quick: bool) -> None:
    async def steps() -> None:
        batcher = make(FailingModel(on=[13.0]), quick=quick)
        bad = put(batcher, *[13] * (MAX_MODEL_ERRORS + 1))
        first, last = put(batcher, 1), put(batcher, 2, 13)
        assert told(await first) == [1]
        assert told(await last) == [2, None]
        with pytest.raises(PredictionError, match="raised on more than"):
            await bad
        batcher.retire()

    run(steps)


def test_who_waits_behind_a_large_batch_of_a_quick_model_waits_no_longer_than_it_said() -> None:
    async def steps() -> None:
        model = HeldModel(go=threading.Event())
        batcher = make(model, max_batch=QUICK_ROWS + 1)
        large = put(batcher, *[-1] * (QUICK_ROWS + 1))
        with pytest.raises(TooLate):
            await put(batcher, 1, deadline=time.monotonic() + SOON)
        model.go.set()
        assert len((await large).places) == QUICK_ROWS + 1
        batcher.retire()

    run(steps)


def test_a_thread_ends_with_its_model() -> None:
    async def steps() -> None:
        model = HeldModel(name="ending", go=threading.Event())
        batcher = make(model, quick=False)
        busy = put(batcher, -1)
        await asyncio.sleep(0)
        batcher.retire()
        model.go.set()
        await busy
        names = [t for t in threading.enumerate() if t.name.startswith("model-ending-")]
        for thread in names:
            thread.join(30)

    run(steps)


def test_an_answer_of_the_event_loop_that_comes_too_late_is_none() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Dawdling(LinearModel):
        def predict(self, batch: pa.RecordBatch, /) -> pa.RecordBatch:
            until = time.monotonic() + 2 * module.SLOW_SECONDS
            while time.monotonic() < until:
                pass
            return super().predict(batch)

    async def steps() -> None:
        batcher = make(Dawdling())
        late = put(batcher, 1, deadline=time.monotonic() + module.SLOW_SECONDS)
        patient = put(batcher, 2)
        assert told(await patient) == [2]
        with pytest.raises(TooLate):
            await late

    run(steps)
