"""Workers of a stream that are killed at random moments; a program of its own, one thread.

    python -m support.stream_chaos ORDER

Everything is imported before the first fork, so a worker costs no start of Python. Prints a line
a kill; after the last one it keeps workers going until its standard input is closed, ends them
politely, and tells what it did.
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from support.streams import Stream
from trivet.errors import TrivetError
from trivet.logs import set_up_logging


def main() -> None:
    order: dict[str, Any] = json.loads(sys.argv[1])
    chance = random.Random(order["seed"])
    workers: dict[int, int] = {}  # by process, its place
    started = kills = 0
    target = 1
    ended = False
    while not ended:
        if kills < order["kills"]:
            target = chance.randint(1, 3)
        for place in range(3):
            if len(workers) >= max(1, target):
                break
            if place not in workers.values():
                started += 1
                workers[_start(order, started, place)] = place
        calm = kills >= order["kills"]
        target = 3 if calm else target  # each place ends the transaction that its last one left
        wait = 0.2 if calm else chance.choice([0.02, 0.1, 0.3, 0.6]) * chance.random()
        if calm or chance.random() < 0.2:
            ended = bool(select.select([sys.stdin], [], [], wait)[0]) if calm else False
        else:
            time.sleep(wait)
        sys.stdout.flush()
        _reap(workers)
        if not calm and workers:
            victim = chance.choice(list(workers))
            os.kill(victim, signal.SIGKILL)
            os.waitpid(victim, 0)
            del workers[victim]
            kills += 1
            print(json.dumps({"kills": kills}), flush=True)
    for pid in workers:
        os.kill(pid, signal.SIGTERM)
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in workers]
    print(json.dumps({"kills": kills, "started": started, "codes": codes}), flush=True)


def _reap(workers: dict[int, int]) -> None:
    for pid in list(workers):
        if os.waitpid(pid, os.WNOHANG)[0]:
            del workers[pid]


def _start(order: dict[str, Any], number: int, place: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(log, 1)
        os.dup2(log, 2)
        set_up_logging(json=False)
        stream = Stream(
            Path(order["root"]),
            order["broker"],
            order["results"],
            settings=order["settings"],
            prefix=order["prefix"],
        )
        worker = stream.worker(number, place=place)
        signal.signal(signal.SIGTERM, lambda *_: worker.stop())
        worker.run()
        code = 0
    except TrivetError as error:  # as its supervisor would: another one is started
        print(f"ended: {type(error).__name__}: {error}")
    except BaseException:  # noqa: BLE001 - the parent sees the code, and the log tells why
        traceback.print_exc()
    finally:
        os._exit(code)


if __name__ == "__main__":
    main()
