"""BentoML, with its batching on.

bentoml serve bentoml_both:Trees (or Linear) -p PORT; MODEL is the file
"""

import os
import pickle
from pathlib import Path

import bentoml
import lightgbm
import numpy as np

MODEL = os.environ["MODEL"]


@bentoml.service(workers=1)
class Trees:
    def __init__(self):
        self.model = lightgbm.Booster(model_file=MODEL)

    @bentoml.api(batchable=True)
    def predict(self, rows: np.ndarray) -> np.ndarray:
        return self.model.predict(rows, num_threads=1)


@bentoml.service(workers=1)
class Linear:
    def __init__(self):
        self.model = pickle.loads(Path(MODEL).read_bytes())

    @bentoml.api(batchable=True)
    def predict(self, rows: list[dict]) -> list[float]:
        return self.model.predict(rows).tolist()
