"""How long another writer of the same SQLite file waits; run as a process of its own.

    python contention.py FILE SECONDS_BETWEEN

Writes a row at a time into a table of its own, each in a durable transaction, until its standard
input is closed; then prints the seconds that each took, as JSON.
"""

from __future__ import annotations

import json
import select
import sqlite3
import sys
import time


def main() -> None:
    path, pause = sys.argv[1], float(sys.argv[2])
    db = sqlite3.connect(path, timeout=20, isolation_level=None)
    db.execute("PRAGMA synchronous = FULL")
    db.execute("CREATE TABLE IF NOT EXISTS others (at REAL, note TEXT)")
    waits = []
    print("ready", flush=True)
    while not select.select([sys.stdin], [], [], pause)[0]:
        began = time.perf_counter()
        db.execute("INSERT INTO others VALUES (?, ?)", (time.time(), "a row of someone else"))
        waits.append(time.perf_counter() - began)
    print(json.dumps(waits))


if __name__ == "__main__":
    main()
