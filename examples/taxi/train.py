"""Train the ride-duration model and save it as models/trip-duration/1.

    python train.py

Trained on the rides of January to June 2019, tested on July to December; 2020 is scored too, to
show what the pandemic did to a model that had never seen empty streets.
"""

from __future__ import annotations

import argparse
import datetime as dt
import tempfile
import time
from pathlib import Path
from zoneinfo import ZoneInfo

import lightgbm
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from duration import TripDuration, ZoneMap, features

import trivet

HERE = Path(__file__).parent
ZONE = ZoneInfo("America/New_York")
SPLIT = dt.datetime(2019, 7, 1, tzinfo=ZONE)
TEST_END = dt.datetime(2020, 1, 1, tzinfo=ZONE)
ROUNDS = 300
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
Floats = npt.NDArray[np.float64]


def read(path: Path) -> pa.RecordBatch:
    """Read the rides that are fit to learn from, with their `minutes`.

    The metered distance and the fare serve to throw out broken records; the model never sees them.
    """
    trips = pq.read_table(path)
    seconds = pc.subtract(*(trips[at].cast(pa.int64()) for at in ("dropoff_at", "pickup_at")))
    minutes = pc.divide(seconds.cast(pa.float64()), 60e6)
    sane = (
        (pc.field("pickup_at") >= dt.datetime(2019, 1, 1, tzinfo=ZONE))
        & (pc.field("minutes") >= 1)
        & (pc.field("minutes") <= 60)
        & (pc.field("trip_distance") > 0)
        & (pc.field("trip_distance") <= 100)
        & (pc.field("fare_amount") > 0)
        & (pc.field("fare_amount") <= 500)
        & (pc.field("pickup_zone") <= 263)
        & (pc.field("dropoff_zone") <= 263)
    )
    kept = trips.append_column("minutes", minutes).filter(sane)
    kept = kept.select([*TripDuration.inputs.names, "minutes"])
    return kept.combine_chunks().to_batches()[0]


def between(rides: pa.RecordBatch, start: dt.datetime | None, end: dt.datetime) -> pa.RecordBatch:
    """Return the rides picked up from `start` (or the first one) up to `end`, itself excluded."""
    chosen = pc.less(rides["pickup_at"], pa.scalar(end, rides["pickup_at"].type))
    if start is not None:
        after = pc.greater_equal(rides["pickup_at"], pa.scalar(start, rides["pickup_at"].type))
        chosen = pc.and_(chosen, after)
    return rides.filter(chosen)


def minutes_of(rides: pa.RecordBatch) -> Floats:
    """Return the true minutes of the rides."""
    values: Floats = rides["minutes"].to_numpy()
    return values


def train(rides: pa.RecordBatch, scratch: Path) -> TripDuration:
    """Learn the map and the trees; the same rides give the same model."""
    minutes = minutes_of(rides)
    zones = ZoneMap.fit(rides["pickup_zone"].to_numpy(), rides["dropoff_zone"].to_numpy(), minutes)
    table = features(rides, zones)
    matrix = np.column_stack([column.to_numpy() for column in table.columns])
    data = lightgbm.Dataset(matrix, minutes, feature_name=table.schema.names)
    path = scratch / "booster.txt"
    lightgbm.train(PARAMETERS, data, num_boost_round=ROUNDS).save_model(path)
    return TripDuration(zones, path)


def predict(model: TripDuration, rides: pa.RecordBatch) -> Floats:
    """Predict the minutes of the rides."""
    inputs = rides.select(list(TripDuration.inputs.names))
    values: Floats = model.predict(model.transform(inputs)).column(0).to_numpy()
    return values


def pair_median(known: pa.RecordBatch, rides: pa.RecordBatch) -> Floats:
    """Predict what a query could: the median of earlier rides between the same two zones."""
    pair = ["pickup_zone", "dropoff_zone"]
    medians = pa.table(known).group_by(pair).aggregate([("minutes", "approximate_median")])
    table = np.full((264, 264), np.median(minutes_of(known)))
    table[tuple(medians[zone].to_numpy() for zone in pair)] = medians[
        "minutes_approximate_median"
    ].to_numpy()
    values: Floats = table[tuple(rides[zone].to_numpy() for zone in pair)]
    return values


def figures(true: Floats, predicted: Floats) -> dict[str, float]:
    """Return RMSE and MAE in minutes, and the bias (predicted less true)."""
    error = predicted - true
    return {
        "rmse": float(np.sqrt(np.mean(error**2))),
        "mae": float(np.mean(np.abs(error))),
        "bias": float(np.mean(error)),
    }


def main() -> None:
    """Run the script."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=HERE / "data" / "trips.parquet")
    parser.add_argument("--models", type=Path, default=HERE / "models", help="the model store")
    parser.add_argument("--version", default="1", help="the version to save as")
    arguments = parser.parse_args()

    start = time.perf_counter()
    rides = read(arguments.data)
    known, later = between(rides, None, SPLIT), between(rides, SPLIT, TEST_END)
    with tempfile.TemporaryDirectory() as scratch:
        model = train(known, Path(scratch))
        mean = float(minutes_of(known).mean())
        print(f"{'minutes':<18}{'train RMSE':>12}{'MAE':>8}{'test RMSE':>12}{'MAE':>8}")
        for label, guess in (
            ("mean", lambda rows: np.full(rows.num_rows, mean)),
            ("zone-pair median", lambda rows: pair_median(known, rows)),
            ("TripDuration", lambda rows: predict(model, rows)),
        ):
            row = [figures(minutes_of(rows), guess(rows)) for rows in (known, later)]
            print(
                f"{label:<18}{row[0]['rmse']:>12.2f}{row[0]['mae']:>8.2f}"
                f"{row[1]['rmse']:>12.2f}{row[1]['mae']:>8.2f}"
            )
        print_months(model, rides)

        # The sample becomes the reference that drift is measured against; the figures kept beside
        # it are those of the rides that the model had not seen.
        rows = np.random.default_rng(1).choice(known.num_rows, SAMPLE_ROWS, replace=False)
        sample = known.take(pa.array(np.sort(rows)))
        place = trivet.save(
            model,
            arguments.models,
            name="trip-duration",
            version=arguments.version,
            inputs=TripDuration.inputs,
            outputs=TripDuration.outputs,
            sample=sample.select(list(TripDuration.inputs.names)),
            target=minutes_of(sample),
            metrics=figures(minutes_of(later), predict(model, later)),
            description="Minutes of a New York taxi ride, from its pickup time and its two zones",
        )
    print(f"\nsaved {place} in {time.perf_counter() - start:.1f} s")


def print_months(model: TripDuration, rides: pa.RecordBatch) -> None:
    """Print how the error grows, month by month after the training data."""
    print("\nMAE by month")
    for number in range(6, 18):
        first, after = (
            dt.datetime(2019 + n // 12, n % 12 + 1, 1, tzinfo=ZONE) for n in (number, number + 1)
        )
        rows = between(rides, first, after)
        error = figures(minutes_of(rows), predict(model, rows))
        print(f"{first:%Y-%m}  {error['mae']:.2f}  bias {error['bias']:+.2f}")


if __name__ == "__main__":
    main()
