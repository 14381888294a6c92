"""LitServe: one process for the model, one for the requests, as it comes.

python litserve_both.py PORT MODEL
"""

import pickle
import sys
from pathlib import Path

import lightgbm
import litserve
import numpy as np

FEATURES = ("pickup_zone", "dropoff_zone", "trip_distance", "hour", "passengers")


class Trees(litserve.LitAPI):
    def setup(self, device):
        self.model = lightgbm.Booster(model_file=sys.argv[2])

    def predict(self, trip):
        row = np.array([[trip[name] for name in FEATURES]])
        return {"prediction": float(self.model.predict(row, num_threads=1)[0])}


class Linear(litserve.LitAPI):
    def setup(self, device):
        self.model = pickle.loads(Path(sys.argv[2]).read_bytes())

    def predict(self, trip):
        row = {name: trip[name] for name in ("PU_DO", "trip_distance")}
        return {"prediction": float(self.model.predict([row])[0])}


if __name__ == "__main__":
    api = Trees() if sys.argv[2].endswith(".txt") else Linear()
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        num_api_servers=1,
        generate_client_file=False,
        log_level="warning",
        access_log=False,
    )
