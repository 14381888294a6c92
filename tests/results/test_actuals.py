"""True values: pulled, matched by key and interval, and measured, on both databases."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import log_loss, mean_absolute_error, roc_auc_score

from support.truths import CLASSES, NOW, TREE, Truths, day
from trivet.errors import QueryError, ResultsError
from trivet.monitoring import Profile, Reference
from trivet.monitoring.quality import Scores
from trivet.results.actuals import ANY_INTERVAL, actuals, pull, pulls, spans
from trivet.results.actuals_settings import ActualsSettings, Limit
from trivet.results.asking import asking
from trivet.results.keys import key_sql, key_texts
from trivet.results.measuring import refresh, target_of
from trivet.results.profiles import periods
from trivet.results.quality import segments
from trivet.results.statements import identifier
from trivet.results.tables import columns_of
from trivet.schema import TYPES

BY_DAY = "SELECT * FROM truth WHERE at >= $interval_start AND at < $interval_end"
NEWER = "SELECT * FROM truth WHERE at >= $since"


@pytest.fixture
def truths(results_url: str, tmp_path: Path) -> Iterator[Truths]:
    with Truths.open(results_url, tmp_path) as truths:
        yield truths


def rides(truths: Truths, number: int, version: str = "1", **changes: Any) -> None:
    columns = {
        "ride": pa.array([1, 2, 3]),
        "zone": pa.array(["a", "a", "b"]),
        "minutes": pa.array([10.0, 20.0, 30.0]),
    }
    truths.score(number, version=version, **columns | changes)


class TestByInterval:
    def test_the_same_key_in_two_intervals_has_two_truths(self, truths: Truths) -> None:
        truths.register()
        rides(truths, 0)
        rides(truths, 1)
        truths.arrive(ride=[1, 2, 3, 1, 2], minutes=[11, 22, 30.0, 10, 20], at=[
            "2026-01-01", "2026-01-01 05:00:00", "2026-01-01", "2026-01-02", "2026-01-02",
        ])  # fmt: skip
        settings = truths.settings(BY_DAY)
        assert settings.by_interval
        assert truths.pull(settings) == 2
        assert truths.metrics() == {
            (0, "1", ""): {"mae": 1.0, "rmse": pytest.approx((5 / 3) ** 0.5), "bias": -1.0},
            (1, "1", ""): {"mae": 0.0, "rmse": 0.0, "bias": 0.0},
        }
        assert truths.metrics("zone") == {
            (0, "1", "a"): {"mae": 1.5, "rmse": pytest.approx(2.5**0.5), "bias": -1.5},
            (0, "1", "b"): {"mae": 0.0, "rmse": 0.0, "bias": 0.0},
            (1, "1", "a"): {"mae": 0.0, "rmse": 0.0, "bias": 0.0},
        }
        assert segments(asking(truths.db), "rides") == ["zone"]

    def test_only_what_is_new_is_pulled_and_measured(self, truths: Truths) -> None:
        truths.register()
        rides(truths, 0)
        truths.arrive(ride=[1], minutes=[12.0], at=["2026-01-01"])
        settings = truths.settings(BY_DAY)
        assert truths.pull(settings) == 1
        assert spans(truths.db, settings, NOW) == []
        assert truths.pull(settings) == 0
        rides(truths, 1)
        assert spans(truths.db, settings, NOW) == [(day(1), day(2))]
        assert truths.pull(settings) == 1

    def test_a_later_pull_replaces(self, truths: Truths) -> None:
        truths.register()
        rides(truths, 0)
        truths.arrive(ride=[1, 1], minutes=[99.0, 12.0], at=["2026-01-01"] * 2)
        settings = truths.settings(BY_DAY)
        truths.pull(settings)
        assert truths.metrics()[0, "1", ""]["mae"] == 2.0  # of a key that comes twice, the last
        truths.arrive(ride=[1, 3], minutes=[14.0, 33.0], at=["2026-01-01"] * 2)
        assert truths.pull(settings, again=True) == 1
        assert truths.metrics()[0, "1", ""]["mae"] == 3.5
        found = actuals(truths.db, "rides", day(0)).sort_by("row_key").to_pylist()
        assert [(f["row_key"], f["number"]) for f in found] == [("1", 14.0), ("3", 33.0)]
        (told,) = pulls(truths.db, "rides")
        assert (told["row_count"], told["unusable_count"]) == (4, 0)

    def test_an_interval_scored_again_is_measured_again(self, truths: Truths) -> None:
        truths.register()
        rides(truths, 0)
        truths.arrive(ride=[1], minutes=[12.0], at=["2026-01-01"])
        settings = truths.settings(BY_DAY)
        truths.pull(settings)
        rides(truths, 0, version="2", minutes=pa.array([12.5, 0.0, 0.0]))
        assert truths.pull(settings) == 1
        assert truths.metrics() == {(0, "2", ""): {"mae": 0.5, "rmse": 0.5, "bias": 0.5}}

    def test_delay_and_lookback(self, truths: Truths) -> None:
        truths.register()
        for number in range(3):
            rides(truths, number)
        truths.now = day(3) + dt.timedelta(hours=1)
        truths.arrive(ride=[1], minutes=[12.0], at=["2026-01-01"])
        late = truths.settings(BY_DAY, delay=dt.timedelta(hours=2), lookback=1)
        assert [start for start, _ in spans(truths.db, late, truths.now)] == [day(0), day(1)]
        truths.pull(late)
        truths.now += dt.timedelta(hours=2)
        starts = [start for start, _ in spans(truths.db, late, truths.now)]
        assert starts == [day(1), day(2)]  # the newest, and one before it once more

    def test_rows_without_a_key_or_a_value_are_left_out(self, truths: Truths) -> None:
        truths.register()
        rides(truths, 0)
        truths.arrive(
            ride=[1, None, 3, 2], minutes=[12.0, 5.0, None, "soon"], at=["2026-01-01"] * 4
        )
        settings = truths.settings(BY_DAY)
        pulled = pull(truths.db, settings, (day(0), day(1)), root=truths.root, now=NOW)
        assert pulled == (4, 3)
        assert refresh(truths.db, settings, NOW) == 1
        assert truths.groups()[0].measure.rows == 1


class TestByKey:
    def test_truths_find_their_rows_in_whatever_interval(self, truths: Truths) -> None:
        truths.register()
        rides(truths, 0, ride=pa.array([1, 2, 3]))
        rides(truths, 1, ride=pa.array([4, 5, 6]))
        truths.arrive(ride=[1, 5], minutes=[11, 22], at=["2026-01-02", "2026-01-03"])
        settings = truths.settings(NEWER)
        assert truths.pull(settings) == 2
        assert {k: v["mae"] for k, v in truths.metrics().items()} == {
            (0, "1", ""): 1.0,
            (1, "1", ""): 2.0,
        }
        truths.now += dt.timedelta(hours=2)
        truths.arrive(ride=[6], minutes=[30], at=[f"{truths.now:%Y-%m-%d %H:%M:%S}"])
        ((since, until),) = spans(truths.db, settings, truths.now)
        assert (since, until) == (NOW - settings.overlap, truths.now)
        assert truths.pull(settings) == 1  # only the day whose row has a new truth
        assert truths.metrics()[1, "1", ""]["mae"] == 1.0

    def test_a_query_without_parameters_gives_everything(self, truths: Truths) -> None:
        truths.register()
        rides(truths, 0)
        truths.arrive(ride=[1], minutes=[11])
        settings = truths.settings("SELECT ride, minutes FROM truth")
        assert truths.pull(settings) == 1
        truths.now += dt.timedelta(hours=2)
        assert truths.pull(settings) == 0  # nothing has changed

    def test_rows_of_a_service_are_measured_by_hour(self, truths: Truths) -> None:
        truths.register(kind="service", keep=())
        inputs = pa.record_batch({"x": [1.0, 2.0]})
        for hour, keys in ((1, "ab"), (2, "cd")):
            at = day(0) + dt.timedelta(hours=hour, minutes=5)
            truths.serve(at, keys, inputs, minutes=pa.array([10.0, 20.0]))
        truths.arrive(ride=["a", "d"], minutes=[12.0, 25.0], at=["2026-01-02"] * 2)
        settings = truths.settings(NEWER)
        assert truths.pull(settings) == 2
        assert [(g.start.hour, g.measure.metrics()["mae"]) for g in truths.groups()] == [
            (1, 2.0),
            (2, 5.0),
        ]
        truths.now += dt.timedelta(seconds=1)
        assert truths.pull(settings) == 0
        truths.arrive(ride=["b"], minutes=[20.0], at=["2026-02-01 13:00:00"])
        truths.now += dt.timedelta(hours=1)
        assert truths.pull(settings) == 1
        assert truths.groups()[0].measure.metrics()["mae"] == 1.0
        assert truths.groups()[0].version == "1"

    def test_an_hour_under_way_is_measured_again(self, truths: Truths) -> None:
        truths.register(kind="service", keep=())
        truths.now = day(0) + dt.timedelta(hours=1, minutes=30)
        inputs = pa.record_batch({"x": [1.0]})
        truths.serve(truths.now, "a", inputs, minutes=pa.array([10.0]))
        truths.arrive(ride=["a"], minutes=[11.0], at=["2026-01-01 01:30:00"])
        settings = truths.settings(NEWER)
        assert truths.pull(settings) == 1
        truths.serve(truths.now, "a", inputs, ids=["again"], minutes=pa.array([13.0]))
        truths.now += dt.timedelta(minutes=5)
        assert truths.pull(settings) == 1
        assert truths.groups()[0].measure.rows == 2

    def test_a_service_with_a_query_by_interval_is_pulled_by_day(self, truths: Truths) -> None:
        truths.register(kind="service", keep=())
        at = day(0) + dt.timedelta(hours=7)
        truths.serve(at, "a", pa.record_batch({"x": [1.0]}), minutes=pa.array([10.0]))
        truths.arrive(ride=["a"], minutes=[11.0], at=["2026-01-01 09:00:00"])
        settings = truths.settings(BY_DAY)
        assert spans(truths.db, settings, NOW) == [(day(0), day(1))]
        assert truths.pull(settings) == 1
        assert truths.groups()[0].start == day(0) + dt.timedelta(hours=7)
        assert spans(truths.db, settings, NOW) == []


class TestClasses:
    def score(self, truths: Truths, **changes: Any) -> np.random.Generator:
        random = np.random.default_rng(4)
        truths.register(outputs=CLASSES)
        p = 1 / (1 + np.exp(-random.normal(0, 2, 400)))
        columns = {
            "ride": pa.array(range(400)),
            "zone": pa.array(["a", "b"] * 200),
            "label": pa.array(np.where(p > 0.5, "yes", "no")),
            "probability_no": pa.array(1 - p),
            "probability_yes": pa.array(p),
        }
        truths.score(0, **columns | changes)
        self.p, self.truth = p, random.random(400) < p
        return random

    def test_two_classes_have_every_measure(self, truths: Truths) -> None:
        self.score(truths)
        truths.arrive(ride=range(400), truth=np.where(self.truth, "yes", "no").tolist())
        settings = truths.settings("SELECT * FROM truth", value="truth", threshold=0.3)
        assert truths.pull(settings) == 1
        (group,) = truths.groups()
        assert (group.positive, group.threshold) == ("yes", 0.3)
        expected = Scores.of(self.truth, self.p, 0.3)
        measure = group.measure
        assert isinstance(measure, Scores)
        assert measure.metrics() == pytest.approx(expected.metrics())
        assert {k: v.rows for k, v in measure.bins.items()} == {
            k: v.rows for k, v in expected.bins.items()
        }
        assert measure.metrics()["log_loss"] == pytest.approx(log_loss(self.truth, self.p))
        assert measure.metrics()["roc_auc"] == pytest.approx(
            roc_auc_score(self.truth, self.p), abs=2e-3
        )
        half = truths.metrics("zone")[0, "1", "a"]
        assert half == pytest.approx(Scores.of(self.truth[::2], self.p[::2], 0.3).metrics())

    def test_the_positive_class_can_be_chosen(self, truths: Truths) -> None:
        self.score(truths)
        truths.arrive(ride=range(400), truth=np.where(self.truth, "yes", "no").tolist())
        truths.pull(truths.settings("SELECT * FROM truth", value="truth", positive="no"))
        found = truths.metrics()[0, "1", ""]
        assert found["brier"] == pytest.approx(
            Scores.of(~self.truth, 1 - self.p).metrics()["brier"]
        )

    def test_a_label_alone_has_an_accuracy(self, truths: Truths) -> None:
        self.score(truths)
        truths.arrive(ride=range(400), truth=np.where(self.truth, "yes", "no").tolist())
        truths.pull(truths.settings("SELECT * FROM truth", value="truth", output="label"))
        right = (np.where(self.p > 0.5, "yes", "no") == np.where(self.truth, "yes", "no")).mean()
        assert truths.metrics() == {(0, "1", ""): {"accuracy": pytest.approx(right)}}

    def test_classes_that_are_whole_numbers(self, truths: Truths) -> None:
        truths.register(outputs=[{"name": f"probability_{c}", "type": "float64"} for c in (0, 1)])
        truths.score(
            0, ride=pa.array([1, 2]), zone=pa.array(["a", "a"]),
            probability_0=pa.array([0.8, 0.1]), probability_1=pa.array([0.2, 0.9]),
        )  # fmt: skip
        truths.arrive(ride=[1, 2], truth=[0.0, 1.0])
        truths.pull(truths.settings("SELECT * FROM truth", value="truth"))
        assert truths.metrics()[0, "1", ""]["accuracy"] == 1.0


class TestWhatCannotBe:
    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"query": "SELECT ride FROM truth"}, "no column minutes; it has ride"),
            ({"query": "SELECT * FROM nowhere"}, "nowhere"),
            ({"query": "SELECT 1.5 AS ride, 2.0 AS minutes"}, "'ride' is double, which is no key"),
            ({"key": ("a", "b")}, r"2 columns, the key of rides has 1 \(ride\)"),
        ],
    )
    def test_a_query_that_does_not_fit(
        self, truths: Truths, changes: dict[str, Any], words: str
    ) -> None:
        truths.register()
        rides(truths, 0)
        truths.arrive(ride=[1], minutes=[2.0])
        settings = truths.settings(**{"query": "SELECT * FROM truth"} | changes)
        with pytest.raises((QueryError, ResultsError), match=rf"\[actuals.rides\].*{words}"):
            pull(truths.db, settings, (ANY_INTERVAL, NOW), root=truths.root, now=NOW)

    def test_a_deployment_that_never_ran(self, truths: Truths) -> None:
        with pytest.raises(ResultsError, match="know no deployment 'rides' yet; run it once"):
            truths.pull(truths.settings(NEWER))

    def test_a_deployment_without_a_row_yet(self, truths: Truths) -> None:
        truths.register()
        truths.arrive(ride=[1], minutes=[2.0], at=["2026-01-01"])
        assert truths.pull(truths.settings(NEWER)) == 0

    def test_a_segment_of_too_many_values_is_none(
        self, truths: Truths, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("trivet.results.measuring.MAX_SEGMENTS", 1)
        truths.register()
        rides(truths, 0)
        truths.arrive(ride=[1], minutes=[2.0])
        truths.pull(truths.settings("SELECT * FROM truth"))
        assert segments(asking(truths.db), "rides") == []

    def test_a_truth_that_comes_while_its_period_is_measured(
        self, truths: Truths, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        truths.register()
        rides(truths, 0)
        truths.arrive(ride=[1], minutes=[2.0])
        settings = truths.settings("SELECT * FROM truth")
        told = iter([[{"pulls": 1}], [{"pulls": 2}]])
        with monkeypatch.context() as patch:
            patch.setattr(
                "trivet.results.measuring._Measuring._last_pull", lambda _: next(told, [])
            )
            assert truths.pull(settings) == 1
        assert refresh(truths.db, settings, NOW) == 1
        assert refresh(truths.db, settings, NOW) == 0

    def test_told_to_stop_it_goes_on_another_time(self, truths: Truths) -> None:
        truths.register()
        rides(truths, 0)
        truths.arrive(ride=[1], minutes=[2.0])
        settings = truths.settings("SELECT * FROM truth")
        pull(truths.db, settings, (ANY_INTERVAL, NOW), root=truths.root, now=NOW)
        assert refresh(truths.db, settings, NOW, lambda: True) == 0
        assert refresh(truths.db, settings, NOW) == 1


class TestTargets:
    def target(self, outputs: Any, **settings: Any) -> tuple[str, ...]:
        from trivet.results.actuals import Registered

        known = Registered("d", "batch", ("k",), (), {o["name"]: o["type"] for o in outputs})
        made = ActualsSettings(name="d", source="s", query="q", value="v", **settings)
        return tuple(target_of(made, known))

    def test_what_is_measured(self) -> None:
        price = {"name": "price", "type": "float64"}
        assert self.target(TREE) == ("regression", "minutes", "")
        assert self.target([*TREE, price], output="price") == ("regression", "price", "")
        assert self.target(CLASSES) == ("binary", "probability_yes", "yes")
        assert self.target(CLASSES, output="probability_no") == ("binary", "probability_no", "no")
        assert self.target(TREE, output="minutes", positive="1") == ("binary", "minutes", "1")
        many = [*CLASSES, {"name": "probability_perhaps", "type": "float64"}]
        assert self.target(many) == ("classes", "label", "")
        assert self.target(many, positive="perhaps") == (
            "binary", "probability_perhaps", "perhaps",
        )  # fmt: skip

    @pytest.mark.parametrize(
        ("outputs", "settings", "words"),
        [
            (TREE, {"output": "cost"}, "no output 'cost'; it has minutes"),
            ([*TREE, {"name": "b", "type": "int64"}], {}, "name the output"),
            ([], {}, "has none"),
            (CLASSES, {"positive": "maybe"}, "no output probability_maybe"),
        ],
    )
    def test_what_is_not_clear(self, outputs: Any, settings: Any, words: str) -> None:
        with pytest.raises(ResultsError, match=words):
            self.target(outputs, **settings)


class TestSettings:
    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"query": " "}, "query: it is empty"),
            ({"threshold": 1.5}, "threshold: write"),
            ({"lookback": -1}, "lookback: write"),
            ({"every": dt.timedelta()}, "every: more"),
            ({"alert": ("mae above 3",)}, "'mae above 3' is no limit"),
            ({"alert": ("beauty > 3",)}, "is no limit"),
        ],
    )
    def test_mistakes(self, change: dict[str, Any], words: str) -> None:
        parts = {"name": "d", "source": "s", "query": "q", "value": "v"}
        with pytest.raises(ValueError, match=words):
            ActualsSettings(**parts | change)

    def test_limits(self) -> None:
        made = ActualsSettings(
            name="d", source="s", query="q", value="v", alert=("mae > 4.5", "roc_auc<0.8")
        )
        assert made.limits == [Limit("mae", True, 4.5), Limit("roc_auc", False, 0.8)]
        assert made.of == "d"


class TestKeys:
    def test_every_type_of_key_is_one_text_in_both_places(self, truths: Truths) -> None:
        values: dict[str, list[Any]] = {
            "bool": [True, False],
            "int16": [-7, 300],
            "int64": [2**62, 0],
            "string": ["a,b", "c\\d,é"],
            "timestamp": [NOW, day(3)],
            "date": [dt.date(2026, 2, 3), dt.date(1999, 12, 31)],
        }
        batch = pa.record_batch(
            {f"k_{kind}": pa.array(v, TYPES[kind]) for kind, v in values.items()}
        )
        truths.register(key=tuple(batch.schema.names), keep=())
        truths.score(0, **dict(zip(batch.schema.names, batch.columns, strict=True)))
        columns = columns_of(truths.db, "predictions_rides")
        dialect = truths.db.dialect.name
        table = identifier("predictions_rides")
        for key in ([name] for name in batch.schema.names):
            sql = f"SELECT {key_sql(columns, key, dialect)} AS k FROM {table} p"
            assert sorted(truths.db.rows(sql)["k"].to_pylist()) == sorted(
                key_texts(batch, key).to_pylist()
            ), key
        whole = batch.schema.names
        sql = f"SELECT {key_sql(columns, whole, dialect)} AS k FROM {table} p"
        assert sorted(truths.db.rows(sql)["k"].to_pylist()) == sorted(
            key_texts(batch, whole).to_pylist()
        )

    def test_parts_with_commas_stay_apart(self) -> None:
        batch = pa.record_batch({"a": ["x,y", "x"], "b": ["z", "y,z"]})
        first, second = key_texts(batch, ["a", "b"]).to_pylist()
        assert first != second

    def test_a_missing_column(self) -> None:
        with pytest.raises(ResultsError, match="no column 'b'; there are a"):
            key_texts(pa.record_batch({"a": [1]}), ["b"])


class TestHourlyProfiles:
    def test_counts_of_an_hour_add_up(self, truths: Truths) -> None:
        reference = Reference.of(pa.array([1.0, 2.0, 3.0]))
        zones = Reference.of(pa.array(["a", "b"]))
        truths.register(kind="service", keep=(), input__x=reference, input__zone=zones)
        first = pa.record_batch({"x": [1.0, 5.0], "zone": ["a", "z"]})
        second = pa.record_batch({"x": pa.array([None, 2.0]), "zone": ["a", "b"]})
        at = day(0) + dt.timedelta(minutes=5)
        assert truths.serve(at, "ab", first, minutes=pa.array([1.0, 2.0])) == 0
        assert truths.serve(at, "cd", second, ids=["1", "2"], minutes=pa.array([3.0, 4.0])) == 0
        later = at + dt.timedelta(hours=1)
        truths.serve(later, "ef", first, minutes=pa.array([1.0, 2.0]))
        one, two = periods(asking(truths.db), "rides", "service", day(0), day(1))
        assert (one.start, one.version, two.start.hour) == (day(0), "1", 1)
        whole = Profile.of(first.column("x"), reference) + Profile.of(second.column("x"), reference)
        assert one.profiles["input", "x"] == whole
        assert one.profiles["input", "zone"].counts == (2, 1, 1)
        assert one.profiles["output", "minutes"] == Profile((), 0, 4, 10.0, 1.0, 4.0)

    def test_a_row_that_was_there_is_not_counted_again(self, truths: Truths) -> None:
        truths.register(kind="service", keep=(), input__x=Reference.of(pa.array([1.0, 2.0])))
        inputs = pa.record_batch({"x": [1.0, 2.0]})
        at = day(0)
        truths.serve(at, "ab", inputs, ids=["1", "2"], minutes=pa.array([1.0, 2.0]))
        again = truths.serve(at, "bc", inputs, ids=["2", "3"], minutes=pa.array([5.0, 7.0]))
        assert again == 1
        (period,) = periods(asking(truths.db), "rides", "service", day(0), day(1))
        assert period.profiles["output", "minutes"].total == 10.0
        assert period.profiles["input", "x"].counts == (0, 1, 2)

    def test_profiles_of_intervals_read_the_same(self, truths: Truths) -> None:
        truths.register()
        profile = Profile((1, 2), 0, 3, 9.0, 1.0, 5.0)
        rides(truths, 2)
        columns = {"ride": pa.array([1]), "zone": pa.array(["a"]), "minutes": pa.array([1.0])}
        truths.score(3, profiles={("input", "x"): profile}, **columns)
        (period,) = periods(asking(truths.db), "rides", "batch", day(0), day(9))
        assert (period.start, period.profiles) == (day(3), {("input", "x"): profile})


def test_the_measures_of_many_rows_are_those_of_the_rows(truths: Truths) -> None:
    random = np.random.default_rng(5)
    truths.register()
    minutes, truth = random.gamma(3, 5, 20_000), random.gamma(3, 5, 20_000)
    truths.score(
        0, ride=pa.array(range(20_000)), zone=pa.array(random.integers(0, 5, 20_000)),
        minutes=pa.array(minutes),
    )  # fmt: skip
    with_truth = random.permutation(20_000)[:15_000]
    frame = pa.table({"ride": with_truth, "minutes": truth[with_truth]})
    import pyarrow.parquet as pq

    pq.write_table(frame, truths.root / "truth.parquet")
    settings = truths.settings("SELECT * FROM 'truth.parquet'", source="duckdb://", name="rides")
    assert truths.pull(settings) == 1
    found = truths.metrics()[0, "1", ""]
    assert found["mae"] == pytest.approx(
        mean_absolute_error(truth[with_truth], minutes[with_truth])
    )
    assert sum(g.measure.rows for g in truths.groups("zone")) == 15_000
