"""The models, in every form that the sides read, and the rows that are sent; run in Trivet's own
environment.

    python -m service.models FOLDER

``trees`` is LightGBM, 100 trees on five numbers; ``linear`` a DictVectorizer and a linear
regression on the pair of zones and the distance; ``medium`` and ``heavy`` have 2,000 and 6,000
trees, for overload. All learn from the real trips of examples/taxi.
"""

from __future__ import annotations

import json
import pickle
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from sklearn.feature_extraction import DictVectorizer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline

import trivet

FEATURES = ("pickup_zone", "dropoff_zone", "trip_distance", "hour", "passengers")
SENT = 500
MANY = 10_000
_REAL = Path(__file__).parents[2] / "examples" / "taxi" / "data" / "trips.parquet"


def trips() -> pa.Table:
    """Return the features and the minutes of the real trips that have them all."""
    rows = pq.read_table(_REAL).filter(pc.field("passenger_count").is_valid())
    took = pc.subtract(rows["dropoff_at"].cast(pa.int64()), rows["pickup_at"].cast(pa.int64()))
    local = rows["pickup_at"].cast(pa.timestamp("us", "America/New_York"))
    found = pa.table(
        {
            "pickup_zone": rows["pickup_zone"].cast(pa.int32()),
            "dropoff_zone": rows["dropoff_zone"].cast(pa.int32()),
            "trip_distance": rows["trip_distance"],
            "hour": pc.hour(local).cast(pa.int32()),
            "passengers": rows["passenger_count"].cast(pa.int32()),
            "minutes": pc.divide(took.cast(pa.float64()), 60e6),
        }
    )
    sane = (pc.field("minutes") >= 1) & (pc.field("minutes") <= 120)
    return found.filter(sane).combine_chunks()


def matrix(rows: pa.Table) -> Any:
    return np.column_stack([rows[name].to_numpy().astype(np.float64) for name in FEATURES])


def trees(folder: Path, rows: pa.Table, count: int, name: str) -> None:
    """Save a regressor of so many trees, in a store and as LightGBM's own text."""
    parameters = {"objective": "regression", "num_leaves": 31, "seed": 1, "verbose": -1}
    data = lightgbm.Dataset(matrix(rows), rows["minutes"].to_numpy(), feature_name=list(FEATURES))
    model = lightgbm.train(parameters | {"deterministic": True}, data, num_boost_round=count)
    model.save_model(folder / f"{name}.txt")
    sample = rows.select(FEATURES).slice(0, 5_000)
    trivet.save(model, folder / "models", name=name, version="1", sample=sample)


def linear(folder: Path, rows: pa.Table) -> None:
    """Save the model of the well-known course, in a store and pickled."""
    columns = _pairs(rows)
    model = make_pipeline(DictVectorizer(), LinearRegression())
    model.fit(columns.to_pylist(), rows["minutes"].to_numpy())
    (folder / "linear.pkl").write_bytes(pickle.dumps(model))
    sample = columns.slice(0, 5_000)
    trivet.save(model, folder / "models", name="linear", version="1", sample=sample)


def _pairs(rows: pa.Table) -> pa.Table:
    zones = (rows[name].cast(pa.string()) for name in ("pickup_zone", "dropoff_zone"))
    pairs = pc.binary_join_element_wise(*zones, "_")
    return pa.table({"PU_DO": pairs, "trip_distance": rows["trip_distance"]})


def bodies(folder: Path, name: str, rows: pa.Table) -> None:
    """Write what each side is sent, a request a line; a ride's id is beside its features."""
    columns = rows.column_names
    asked: Sequence[dict[str, Any]] = rows.to_pylist()
    numbers = [list(row.values()) for row in asked]

    def tensor(column: str, value: Any) -> dict[str, Any]:
        kind = "BYTES" if isinstance(value, str) else "FP64"
        return {"name": column, "shape": [1], "datatype": kind, "data": [value]}

    def frame(row: dict[str, Any]) -> dict[str, Any]:
        inputs = [tensor(column, value) for column, value in row.items()]
        return {"parameters": {"content_type": "pd"}, "inputs": inputs}

    if name == "linear":
        batched: Iterable[Any] = ({"rows": [row]} for row in asked)
        infer: Iterable[Any] = map(frame, asked)
    else:
        batched = ({"rows": [row]} for row in numbers)
        shape = {"name": "rows", "shape": [1, len(columns)], "datatype": "FP64"}
        infer = ({"inputs": [shape | {"data": row}]} for row in numbers)
    forms: dict[str, Iterable[Any]] = {
        "record": ({"ride_id": n, **row} for n, row in enumerate(asked)),
        "rows": batched,
        "infer": infer,
        "split": ({"dataframe_split": {"columns": columns, "data": [row]}} for row in numbers),
    }
    for form, some in forms.items():
        text = "".join(json.dumps(body) + "\n" for body in some)
        (folder / f"{name}.{form}.jsonl").write_text(text, encoding="utf-8")


def many(folder: Path, rows: pa.Table) -> None:
    """Write many rows as one Arrow stream, and as the matrix that LightGBM reads."""
    drawn = rows.take(np.random.default_rng(1).integers(0, rows.num_rows, MANY)).combine_chunks()
    with pa.ipc.new_stream(folder / "many.arrow", drawn.schema) as stream:
        stream.write_table(drawn)
    np.save(folder / "many.npy", matrix(drawn))


def main() -> None:
    folder = Path(sys.argv[1])
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    rows = trips()
    sent = rows.take(np.random.default_rng(2).integers(0, rows.num_rows, SENT))
    for name, count in (("trees", 100), ("medium", 2_000), ("heavy", 6_000)):
        trees(folder, rows, count, name)
        bodies(folder, name, sent.select(FEATURES))
    linear(folder, rows)
    bodies(folder, "linear", _pairs(sent))
    many(folder, rows.select(FEATURES))
    (folder / "done").touch()


if __name__ == "__main__":
    main()
