"""MLServer without worker processes, which is its fastest way here.

python mlserver_both.py PORT MODEL FOLDER
"""

import json
import pickle
import subprocess
import sys
from pathlib import Path

from mlserver import MLModel
from mlserver.codecs import NumpyCodec, PandasCodec
from mlserver.types import InferenceResponse
from mlserver.utils import get_model_uri


class Linear(MLModel):
    """Its own runtime for scikit-learn knows no rows as dicts."""

    async def load(self):
        self._model = pickle.loads(Path(await get_model_uri(self._settings)).read_bytes())
        return True

    async def predict(self, payload):
        rows = PandasCodec.decode_request(payload).to_dict("records")
        answer = NumpyCodec.encode_output("predict", self._model.predict(rows))
        return InferenceResponse(model_name=self.name, outputs=[answer])


def main() -> None:
    port, model, folder = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    folder.mkdir(parents=True, exist_ok=True)
    server = {
        "host": "127.0.0.1",
        "http_port": port,
        "grpc_port": port + 1,
        "metrics_port": port + 2,
        "parallel_workers": 0,
        "debug": False,
    }
    kind = "mlserver_lightgbm.LightGBMModel" if model.endswith(".txt") else "mlserver_both.Linear"
    told = {"name": "trips", "implementation": kind, "parameters": {"uri": model}}
    (folder / "settings.json").write_text(json.dumps(server))
    (folder / "model-settings.json").write_text(json.dumps(told))
    mlserver = Path(sys.executable).with_name("mlserver")
    subprocess.run([mlserver, "start", str(folder)], check=False)


if __name__ == "__main__":
    main()
