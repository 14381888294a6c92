"""The model alone on many rows, in memory already; prints rows a second as JSON.

python own_speed.py DATA
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import lightgbm
import numpy as np
import pyarrow as pa

import trivet

SECONDS = 2.0


def rate(call: Callable[[], object], rows: int) -> float:
    call()
    done, began = 0, time.perf_counter()
    while (passed := time.perf_counter() - began) < SECONDS:
        call()
        done += rows
    return done / passed


def main() -> None:
    data = Path(sys.argv[1])
    matrix = np.load(data / "many.npy")
    booster = lightgbm.Booster(model_file=str(data / "trees.txt"))
    model = trivet.load(str(data / "models" / "trees"))
    with pa.ipc.open_stream(data / "many.arrow") as stream:
        table = stream.read_all()
    batch = table.cast(model.inputs.arrow).combine_chunks().to_batches()[0]
    told = {
        "Booster.predict": rate(lambda: booster.predict(matrix, num_threads=1), len(matrix)),
        "Model.predict": rate(lambda: model.predict(batch), batch.num_rows),
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
