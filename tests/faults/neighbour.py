"""Another program that writes into the same SQLite file; a process of its own.

    python -m faults.neighbour FILE SECONDS_BETWEEN

Inserts a row at a time into a table of its own until its standard input is closed, then prints how
many seconds each took, and every error, as JSON.
"""

from __future__ import annotations

import json
import select
import sqlite3
import sys
import time


def main() -> None:
    path, pause = sys.argv[1], float(sys.argv[2])
    db = sqlite3.connect(path, isolation_level=None)  # with Python's own patience, 5 s
    db.execute("CREATE TABLE IF NOT EXISTS neighbours (number INTEGER)")
    waits: list[float] = []
    errors: list[str] = []
    print("ready", flush=True)
    while not select.select([sys.stdin], [], [], pause)[0]:
        began = time.perf_counter()
        try:
            db.execute("INSERT INTO neighbours VALUES (?)", (len(waits),))
        except sqlite3.Error as error:
            errors.append(str(error))
        waits.append(time.perf_counter() - began)
    db.close()
    print(json.dumps({"waits": waits, "errors": errors}))


if __name__ == "__main__":
    main()
