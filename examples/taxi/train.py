"""Train the models of the taxi app and save them under models/.

    python train.py                     # all five
    python train.py tip final-cost      # some of them

They learn from the rides of January to June 2019 and are tested on July to December, which they
never saw; `--from`, `--until` and `--test-until` choose other months, `--version` another name.
The same rides give the same models.
"""

from __future__ import annotations

import argparse
import datetime as dt
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pyarrow as pa
from ride_models import (
    BetterDuration,
    Fare,
    FinalCost,
    RideModel,
    Tip,
    TripDuration,
    ZoneMap,
    features,
)
from rides import DATA, Floats, between, by_card, month, numbers, read, told

import trivet

HERE = Path(__file__).parent
FROM, UNTIL, TEST_UNTIL = "2019-01", "2019-07", "2020-01"
PARAMETERS = {
    "objective": "regression",
    "learning_rate": 0.05,
    "num_leaves": 63,
    "min_data_in_leaf": 80,
    "feature_fraction": 0.8,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "lambda_l2": 5.0,
    "seed": 1,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbose": -1,
}
SAMPLE_ROWS = 5_000


@dataclass(frozen=True)
class Trees:
    """How one booster is trained: the number of trees, and what differs from `PARAMETERS`."""

    rounds: int
    changes: tuple[tuple[str, Any], ...] = ()


def quantile(alpha: float, rounds: int) -> Trees:
    """Return trees that learn a quantile."""
    return Trees(rounds, (("objective", "quantile"), ("alpha", alpha)))


@dataclass(frozen=True)
class Task:
    """One model to train.

    Attributes:
        kind: Its class.
        truth: The column that its first output is to predict.
        trees: Its boosters.
        rides: Chooses the rides that can teach it.
        baseline: What a query could do: predictions for the second batch from the first.
        unit: What it predicts, for people.
        description: One line for the manifest.
    """

    kind: type[RideModel]
    truth: str
    trees: tuple[Trees, ...]
    rides: Callable[[pa.RecordBatch], pa.RecordBatch]
    baseline: Callable[[pa.RecordBatch, pa.RecordBatch], Floats]
    unit: str
    description: str


def pair_median(truth: str) -> Callable[[pa.RecordBatch, pa.RecordBatch], Floats]:
    """Return the baseline of most: the median of earlier rides between the same two zones."""

    def predict(known: pa.RecordBatch, rides: pa.RecordBatch) -> Floats:
        pair = ["pickup_zone", "dropoff_zone"]
        medians = pa.table(known).group_by(pair).aggregate([(truth, "approximate_median")])
        table = np.full((264, 264), np.median(numbers(known, truth)))
        where = tuple(medians[zone].to_numpy() for zone in pair)
        table[where] = medians[f"{truth}_approximate_median"].to_numpy()
        values: Floats = table[tuple(rides[zone].to_numpy() for zone in pair)]
        return values

    return predict


def usual_share(known: pa.RecordBatch, rides: pa.RecordBatch) -> Floats:
    """Return the usual share of the usual fare between the two zones."""
    return share(known) * pair_median("fare")(known, rides)


def share(known: pa.RecordBatch) -> float:
    """Return the median tip as a share of the fare."""
    return float(np.median(numbers(known, "tip") / numbers(known, "fare")))


def every(rides: pa.RecordBatch) -> pa.RecordBatch:
    """Return all rides."""
    return rides


TASKS = {
    "trip-duration": Task(
        TripDuration,
        "minutes",
        (Trees(300),),
        every,
        pair_median("minutes"),
        "minutes",
        "Minutes of a New York taxi ride, from its pickup time and its two zones",
    ),
    "fare": Task(
        Fare,
        "fare",
        (Trees(300),),
        every,
        pair_median("fare"),
        "$",
        "Metered fare of a New York taxi ride, from its pickup time and its two zones",
    ),
    "better-duration": Task(
        BetterDuration,
        "minutes",
        (
            *(Trees(400, (("learning_rate", 0.04), ("seed", seed))) for seed in (1, 2, 3)),
            quantile(0.1, 200),
            quantile(0.9, 200),
        ),
        told,
        pair_median("minutes"),
        "minutes",
        "Minutes of a New York taxi ride with a range, from several times the trees",
    ),
    "tip": Task(
        Tip,
        "tip",
        (quantile(0.5, 200), quantile(0.25, 200), quantile(0.75, 200)),
        by_card,
        usual_share,
        "$",
        "Tip of a passenger who pays by card: the median and the quartiles",
    ),
    "final-cost": Task(
        FinalCost,
        "total",
        (quantile(0.5, 200), quantile(0.1, 200), quantile(0.9, 200)),
        told,
        pair_median("total"),
        "$",
        "What a New York taxi ride costs in the end, all in, with a range",
    ),
}


def train(task: Task, rides: pa.RecordBatch, scratch: Path, share: float = 1.0) -> RideModel:
    """Learn the map and the trees; with a share of them only, sooner and worse."""
    minutes = numbers(rides, "minutes")
    zones = ZoneMap.fit(rides["pickup_zone"].to_numpy(), rides["dropoff_zone"].to_numpy(), minutes)
    table = features(rides, zones, task.kind.facts)
    matrix = np.column_stack([column.to_numpy() for column in table.columns])
    truth = numbers(rides, task.truth)
    paths = [scratch / f"{number}.txt" for number in range(len(task.trees))]
    for path, trees in zip(paths, task.trees, strict=True):
        data = lightgbm.Dataset(matrix, truth, feature_name=table.schema.names)
        parameters = PARAMETERS | dict(trees.changes)
        rounds = max(1, round(share * trees.rounds))
        lightgbm.train(parameters, data, num_boost_round=rounds).save_model(path)
    return task.kind(zones, paths)


def predict(model: RideModel, rides: pa.RecordBatch) -> pa.RecordBatch:
    """Predict for rides, as a host does."""
    return model.predict(model.transform(rides.select(list(model.inputs.names))))


def figures(true: Floats, predicted: Floats) -> dict[str, float]:
    """Return RMSE, MAE and bias (predicted less true)."""
    error = predicted - true
    return {
        "rmse": float(np.sqrt(np.mean(error**2))),
        "mae": float(np.mean(np.abs(error))),
        "bias": float(np.mean(error)),
    }


def measure(
    task: Task, model: RideModel, known: pa.RecordBatch, later: pa.RecordBatch
) -> dict[str, float]:
    """Return the figures of a model on rides that it has not seen, and those of its baseline."""
    true, given = numbers(later, task.truth), predict(model, later)
    found = figures(true, given.column(0).to_numpy())
    plain = figures(true, task.baseline(known, later))
    found |= {f"baseline_{name}": plain[name] for name in ("rmse", "mae")}
    if task.kind is Tip:  # hindsight: what only the end of a ride lets one say
        after = figures(true, share(known) * numbers(later, "fare"))
        found["share_of_true_fare_mae"] = after["mae"]
    if given.num_columns == 3:
        low, high = (given.column(number).to_numpy() for number in (1, 2))
        found["coverage"] = float(np.mean((low <= true) & (true <= high)))
        found["range"] = float(np.mean(high - low))
    return found


def save(
    name: str,
    models: Path,
    version: str,
    known: pa.RecordBatch,
    later: pa.RecordBatch,
    share: float = 1.0,
) -> dict[str, float]:
    """Train one model, measure it and save it; return its figures."""
    task = TASKS[name]
    known, later = task.rides(known), task.rides(later)
    with tempfile.TemporaryDirectory() as scratch:
        model = train(task, known, Path(scratch), share)
        found = measure(task, model, known, later)
        # The sample becomes the reference that drift is measured against.
        rows = np.random.default_rng(1).choice(known.num_rows, SAMPLE_ROWS, replace=False)
        sample = known.take(pa.array(np.sort(rows)))
        trivet.save(
            model,
            models,
            name=name,
            version=version,
            inputs=model.inputs,
            outputs=model.outputs,
            sample=sample.select(list(model.inputs.names)),
            target=numbers(sample, task.truth),
            metrics=found,
            description=task.description,
        )
    return found


def main(words: Sequence[str] | None = None) -> None:
    """Run the script."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="MODEL", help=f"of {', '.join(TASKS)}; all")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--models", type=Path, default=HERE / "models", help="the model store")
    parser.add_argument("--version", default="1", help="the version to save as")
    parser.add_argument("--from", dest="first", type=month, default=month(FROM))
    parser.add_argument("--until", type=month, default=month(UNTIL), help="excluded")
    parser.add_argument("--test-until", type=month, default=month(TEST_UNTIL), help="excluded")
    parser.add_argument("--trees", type=float, default=1.0, help="share of the trees, for a try")
    arguments = parser.parse_args(words)
    if unknown := set(arguments.names) - set(TASKS):
        parser.error(f"there is no model {', '.join(sorted(unknown))}; known: {', '.join(TASKS)}")

    start = time.perf_counter()
    rides = read(arguments.data)
    known = between(rides, arguments.first, arguments.until)
    later = between(rides, arguments.until, arguments.test_until)
    last = arguments.test_until - dt.timedelta(days=1)
    print(
        f"{known.num_rows:,} rides to learn from, {later.num_rows:,} to test on "
        f"({arguments.until:%B %Y} to {last:%B %Y})\n"
        f"{'model':<17}{'predicts':<9}{'RMSE':>6}{'MAE':>6}{'bias':>7}  baseline MAE   in range"
    )
    for name in arguments.names or TASKS:
        found = save(name, arguments.models, arguments.version, known, later, arguments.trees)
        covered = (
            f"{found['coverage']:>7.0%} of {found['range']:.1f}" if "coverage" in found else ""
        )
        print(
            f"{name:<17}{TASKS[name].unit:<9}{found['rmse']:>6.2f}{found['mae']:>6.2f}"
            f"{found['bias']:>+7.2f}{found['baseline_mae']:>14.2f}   {covered}",
            flush=True,
        )
    print(f"saved in {arguments.models} in {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
