"""Train the churn model on the company's past and save it as models/churn/1.

    python train_churn.py --today 2025-07-01

Rows are customers on a day, with what was known when that day ended (sql/customers.sql, the query
that the daily job runs) and whether they left within the thirty days after (sql/left.sql). Only
days whose thirty days are over are used. The days to learn from end where the thirty days before
the test day begin, so no row of the test is known in the training.
"""

from __future__ import annotations

import argparse
import datetime as dt
import sqlite3
import time
from pathlib import Path

import lightgbm
import numpy as np
import numpy.typing as npt
import pyarrow as pa

import trivet

HERE = Path(__file__).parent
HORIZON = dt.timedelta(days=30)
FIRST, STEP = dt.timedelta(days=160), dt.timedelta(days=8)
FEATURES = (
    *("monthly_charges", "contract_months", "fiber", "pays_by_check", "tech_support"),
    *("paperless", "senior", "family", "tenure_months", "gb_a_week", "gb_trend"),
    *("calls_14", "calls_60"),
)
REAL = ("monthly_charges", "tenure_months", "gb_a_week", "gb_trend")
INPUTS = trivet.Schema(
    trivet.Field(name=name, type="float64" if name in REAL else "int64", min=0) for name in FEATURES
)
PARAMETERS = {
    "objective": "binary",
    "learning_rate": 0.05,
    "num_leaves": 15,
    "min_data_in_leaf": 200,
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
ROUNDS = 150
REASONS = 3
SAMPLE_ROWS = 3_000

Floats = npt.NDArray[np.float64]


def day_of(company: sqlite3.Connection, end: dt.date) -> tuple[Floats, Floats]:
    """Return features and truth of everybody who was there when a day ended."""
    bound = {"interval_end": end.isoformat()}
    left = dict(company.execute((HERE / "sql" / "left.sql").read_text(encoding="utf-8"), bound))
    query = (HERE / "sql" / "customers.sql").read_text(encoding="utf-8")
    company.row_factory = sqlite3.Row
    rows = company.execute(query, bound).fetchall()
    company.row_factory = None
    features = np.array([[row[name] for name in FEATURES] for row in rows], dtype=float)
    return features, np.array([left[row["customer_id"]] for row in rows], dtype=float)


def auc(true: Floats, score: Floats) -> float:
    """Return the chance that of two customers the one who leaves has the higher score."""
    order = np.argsort(score, kind="stable")
    ranks = np.empty(len(score))
    ranks[order] = np.arange(1, len(score) + 1)
    for value in np.unique(score):  # ties count half
        same = score == value
        ranks[same] = ranks[same].mean()
    positive = true == 1
    n, m = positive.sum(), (~positive).sum()
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * m))


def figures(true: Floats, score: Floats) -> dict[str, float]:
    """Return what the manifest tells of a day that the model has not seen."""
    top = np.argsort(-score)[: len(score) // 10]
    chance = np.clip(score, 1e-9, 1 - 1e-9)
    return {
        "roc_auc": auc(true, score),
        "log_loss": float(-np.mean(true * np.log(chance) + (1 - true) * np.log(1 - chance))),
        "lift_top_tenth": float(true[top].mean() / true.mean()),
        "predicted_rate": float(score.mean()),
        "true_rate": float(true.mean()),
    }


def main() -> None:
    """Run the script."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--company", type=Path, default=HERE / "data" / "company.db")
    parser.add_argument("--models", type=Path, default=HERE / "models", help="the model store")
    parser.add_argument("--version", default="1", help="the version to save as")
    parser.add_argument(
        "--today",
        type=dt.date.fromisoformat,
        default=dt.datetime.now(dt.UTC).date(),
        help="nothing from this day on is looked at",
    )
    arguments = parser.parse_args()
    train(arguments.company, arguments.models, arguments.version, arguments.today)


def train(company: Path, models: Path, version: str, today: dt.date) -> dict[str, float]:
    """Train, save and return the figures."""
    began = time.perf_counter()
    test_day = today - HORIZON
    days = [today - FIRST + i * STEP for i in range(100)]
    days = [day for day in days if day <= test_day - HORIZON]
    with sqlite3.connect(company) as db:
        known = [day_of(db, day) for day in days]
        later = day_of(db, test_day)
    x, y = (np.concatenate(parts) for parts in zip(*known, strict=True))
    data = lightgbm.Dataset(x, y, feature_name=list(FEATURES))
    booster = lightgbm.train(PARAMETERS, data, ROUNDS)
    found = figures(later[1], np.asarray(booster.predict(later[0])))
    rows = np.random.default_rng(1).choice(len(x), min(SAMPLE_ROWS, len(x)), replace=False)
    sample = {
        field.name: pa.array(x[rows, place]).cast(field.arrow.type)
        for place, field in enumerate(INPUTS)
    }
    trivet.save(
        booster,
        models,
        name="churn",
        version=version,
        inputs=INPUTS,
        sample=pa.table(sample),
        target=y[rows].astype(int),
        metrics=found,
        contributions=REASONS,
        description="Whether a customer leaves within thirty days, with the three main reasons",
    )
    print(
        f"{len(x):,} rows of {len(days)} days up to {days[-1]}, tested on {test_day}: "
        + ", ".join(f"{name} {value:.3f}" for name, value in found.items())
        + f" ({time.perf_counter() - began:.1f} s)"
    )
    return found


if __name__ == "__main__":
    main()
