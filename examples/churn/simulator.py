"""A made-up telephone company: customers join, use, call support, are made offers, and leave.

Everything is drawn from one seed, so that a history is the same each time. A day goes like this:

* Each customer has a *discontent* that nobody sees. It drifts: tomorrow's is 0.97 of today's plus
  a normal draw of 0.24, so that it stays about a month, with a standard deviation of 1.
* Discontent shows: a day's *usage* falls with it (to `exp(-0.25 x)` of the usual, times noise),
  and *calls to support* come more often (0.01 `exp(0.8 x)` a day).
* A customer *leaves* at the end of the day with a chance that grows with discontent and recent
  calls, and depends on contract, price, tenure and the way of paying: see `_hazard`.
* An *offer* (20 % off for two months) that arrives on a day is accepted by `ACCEPTED` of those
  who get it. For `LASTS` days after, who has accepted leaves `REMAINING` times as often.

So the true effect of an offer is known: the simulator can say of each customer how likely they
were to leave within thirty days with the offer and without it, on the very days that came. What
is measured from treated and held-out customers can be held against that.

The customers' traits are those of IBM's sample of an invented company; see data/ATTRIBUTION.md.
"""

from __future__ import annotations

import datetime as dt
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

HERE = Path(__file__).parent
ACCEPTED, REMAINING, LASTS = 0.65, 0.2, 60
HORIZON = 30
"""Days within which it counts that somebody left."""

AT_FIRST = 3_600
"""Customers on the first day; the others of the sample join later, some every day."""

JOIN_A_DAY = 5
_FIRST_NAMES = (
    "Ada",
    "Ben",
    "Cleo",
    "Dan",
    "Eve",
    "Finn",
    "Gia",
    "Hugo",
    "Iris",
    "Jon",
    "Kim",
    "Lea",
)

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

SCHEMA = """
CREATE TABLE customers (
    customer_id INTEGER PRIMARY KEY, first_name TEXT NOT NULL, email TEXT NOT NULL,
    joined_on TEXT NOT NULL, senior INTEGER NOT NULL, partner INTEGER NOT NULL,
    dependents INTEGER NOT NULL, internet TEXT NOT NULL, tech_support INTEGER NOT NULL,
    contract TEXT NOT NULL, paperless INTEGER NOT NULL, payment TEXT NOT NULL,
    monthly_charges REAL NOT NULL, left_on TEXT, unsubscribed_on TEXT
);
CREATE TABLE usage (
    day TEXT NOT NULL, customer_id INTEGER NOT NULL, gb REAL NOT NULL,
    PRIMARY KEY (day, customer_id)
) WITHOUT ROWID;
CREATE TABLE calls (called_on TEXT NOT NULL, customer_id INTEGER NOT NULL);
CREATE INDEX calls_by_day ON calls (called_on);
CREATE TABLE offers (
    offer_id TEXT PRIMARY KEY, customer_id INTEGER NOT NULL, received_on TEXT NOT NULL,
    accepted INTEGER NOT NULL
);
"""


@dataclass
class Company:
    """The company on a day; `database` holds what it knows, this object what nobody does.

    Attributes:
        database: Path of its SQLite database, which must not exist yet.
        today: The day that `advance` lives through next.
        seed: Where every draw comes from.
    """

    database: Path
    today: dt.date
    seed: int = 1
    _hazards: list[Floats] = field(default_factory=list)
    _days: list[dt.date] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._draw = np.random.default_rng(self.seed)
        rows = pq.read_table(HERE / "data" / "customers.parquet")
        n = rows.num_rows
        self._rows = rows.to_pylist()
        column = {name: rows[name].to_numpy(zero_copy_only=False) for name in rows.column_names}
        self._charges = column["monthly_charges"].astype(float)
        self._tenure = column["tenure_months"] * 30.4
        self._fixed = (
            1.2 * (column["contract"] == "Month-to-month")
            - 1.2 * (column["contract"] == "Two year")
            + 0.4 * (column["internet"] == "Fiber optic")
            + 0.3 * (column["payment"] == "Electronic check")
            - 0.3 * (column["tech_support"] == 1)
            + 0.01 * (self._charges - 65)
        )
        self._usual = np.where(column["internet"] == "No", 0.2, 3.0) * self._draw.lognormal(
            0, 0.4, n
        )
        self._discontent = self._draw.normal(size=n)
        self._calls = np.zeros(n)  # recent ones: they are forgotten with a half-life of two weeks
        self._here = np.zeros(n, bool)
        self._soothed = np.full(n, -1, dtype=np.int64)  # the day in the history until which
        self._offered: list[tuple[int, int]] = []  # customer's place, day in the history
        # Who is there at first and who joins later is not told by the order of the sample.
        self._waiting = list(self._draw.permutation(n))
        self._db = sqlite3.connect(self.database)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.executescript(SCHEMA)
        self._join(self._waiting[:AT_FIRST], known=True)
        del self._waiting[:AT_FIRST]

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def offer(self, offers: Sequence[tuple[str, int]]) -> int:
        """Let offers arrive: id and customer; one that has arrived already changes nothing.

        Returns:
            How many were new.
        """
        new = 0
        for name, customer in sorted(offers):
            place = customer - 1
            # Drawn apart: nothing else of the history depends on who is made an offer.
            luck = np.random.default_rng([self.seed, customer, len(self._days)]).random()
            accepted = bool(self._here[place] and luck < ACCEPTED)
            added = self._db.execute(
                "INSERT INTO offers VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (name, customer, self.today.isoformat(), int(accepted)),
            )
            if not added.rowcount:
                continue
            new += 1
            self._offered.append((place, len(self._days)))
            if accepted:
                self._soothed[place] = len(self._days) + LASTS
        self._db.commit()
        return new

    def advance(self, days: int = 1) -> None:
        """Live through some days."""
        for _ in range(days):
            self._day()
        self._db.commit()

    def true_effect(self, until: dt.date) -> tuple[float, int]:
        """Return by how much an offer lowered the chance to leave within `HORIZON` days.

        Over the offers whose thirty days were over on a day; a share, such as 0.06, and of how
        many offers it is the mean.
        """
        effects = []
        for place, first in self._offered:
            last = first + HORIZON
            if last > len(self._days) or self._days[last - 1] >= until:
                continue
            hazard = np.array([day[place] for day in self._hazards[first:last]])
            without, accepted = (1 - np.prod(1 - h) for h in (hazard, hazard * REMAINING))
            effects.append(ACCEPTED * (without - accepted))
        return float(np.mean(effects)) if effects else 0.0, len(effects)

    def _day(self) -> None:
        day, n = self.today.isoformat(), len(self._rows)
        self._join(self._waiting[:JOIN_A_DAY], known=False)
        del self._waiting[:JOIN_A_DAY]
        # Drawn for everybody, whoever is there: one who leaves changes no other's fate.
        noise, jolt = self._draw.normal(size=(2, n))
        called = self._draw.poisson(np.minimum(0.01 * np.exp(0.8 * self._discontent), 1.0))
        chance = self._draw.random(n)
        unsubscribed = np.flatnonzero(self._here & (self._draw.random(n) < 0.0004))
        used = self._usual * np.exp(-0.25 * self._discontent + 0.5 * noise)
        here = np.flatnonzero(self._here)
        self._db.executemany(
            "INSERT INTO usage VALUES (?, ?, ?)",
            [(day, int(i) + 1, round(float(used[i]), 3)) for i in here],
        )
        self._db.executemany(
            "INSERT INTO calls VALUES (?, ?)",
            [(day, int(i) + 1) for i in here for _ in range(called[i])],
        )
        self._db.executemany(
            "UPDATE customers SET unsubscribed_on = ? "
            "WHERE customer_id = ? AND unsubscribed_on IS NULL",
            [(day, int(i) + 1) for i in unsubscribed],
        )
        self._calls = 0.95 * self._calls + called
        hazard = self._hazard()
        self._hazards.append(hazard)
        soothed = self._soothed > len(self._days)
        leaves = self._here & (chance < np.where(soothed, hazard * REMAINING, hazard))
        self._db.executemany(
            "UPDATE customers SET left_on = ? WHERE customer_id = ?",
            [(day, int(i) + 1) for i in np.flatnonzero(leaves)],
        )
        self._here = self._here & ~leaves
        self._discontent = 0.97 * self._discontent + 0.24 * jolt
        self._tenure = self._tenure + self._here
        self._days.append(self.today)
        self.today += dt.timedelta(days=1)

    def _hazard(self) -> Floats:
        """Return everybody's chance to leave at the end of the day, if not soothed."""
        settled = np.minimum(self._tenure / 365, 5.0)
        score = self._fixed + 1.1 * self._discontent + 0.35 * self._calls - 0.35 * settled
        hazard: Floats = np.minimum(0.0006 * np.exp(score), 0.05)
        return hazard

    def _join(self, places: Sequence[int], *, known: bool) -> None:
        """Let customers join today, or (`known`) so long ago as the sample says."""
        lines = []
        for i in places:
            row = self._rows[i]
            since = self.today - dt.timedelta(days=int(self._tenure[i]) if known else 0)
            lines.append(
                (
                    i + 1,
                    _FIRST_NAMES[i % len(_FIRST_NAMES)],
                    f"customer-{i + 1}@example.com",
                    since.isoformat(),
                    *(row[name] for name in ("senior", "partner", "dependents", "internet")),
                    *(row[name] for name in ("tech_support", "contract", "paperless", "payment")),
                    row["monthly_charges"],
                )
            )
            self._here[i] = True
            if not known:
                self._tenure[i] = 0.0
        self._db.executemany(
            "INSERT INTO customers VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?, NULL, NULL)",
            [tuple(int(v) if isinstance(v, np.integer) else v for v in line) for line in lines],
        )
