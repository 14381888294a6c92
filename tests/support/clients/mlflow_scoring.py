# mypy: ignore-errors
"""What MLflow's client gets from the service, and what MLflow's own server says to the same."""

import json
import sys
import tempfile

import mlflow
import numpy as np
import pandas as pd
from mlflow.models import infer_signature
from mlflow.pyfunc import scoring_server
from mlflow.pyfunc.scoring_server.client import ScoringServerClient
from starlette.testclient import TestClient

PAYLOADS = {
    "split": {"dataframe_split": {"columns": ["x0", "x1"], "data": [[1, 2], [3.5, 4]]}},
    "split_index": {
        "dataframe_split": {"columns": ["x1", "x0"], "index": [0, 1], "data": [[1, 2], [3, 4]]}
    },
    "split_more": {"dataframe_split": {"columns": ["x0", "c", "x1"], "data": [[1, "c", 2]]}},
    "records": {"dataframe_records": [{"x0": 1, "x1": 2}, {"x1": 3, "x0": 4}]},
    "instances": {"instances": [{"x0": 1, "x1": 2}, {"x0": 3, "x1": 4}]},
    "inputs": {"inputs": {"x0": [1, 2], "x1": [3.5, 4]}},
    "inputs_objects": {"inputs": [{"x0": 1, "x1": 2}]},
    "params": {"dataframe_records": [{"x0": 1, "x1": 2}], "params": {"a": 1}},
    "text": {"dataframe_records": [{"x0": "one", "x1": 2}]},
    "missing": {"dataframe_records": [{"x0": 1}]},
    "two": {"dataframe_records": [{"x0": 1, "x1": 2}], "inputs": [1]},
    "none": {"data": [[1, 2]]},
    "list": [[1, 2]],
    "no_data": {"dataframe_split": {"columns": ["x0", "x1"]}},
    "records_object": {"dataframe_records": {"x0": 1, "x1": 2}},
    "lengths": {"instances": {"x0": [1, 2], "x1": [1]}},
}


class Sum(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return (model_input["x0"] + 3 * model_input["x1"]).to_numpy()


def theirs():
    rows = pd.DataFrame({"x0": [1.0], "x1": [2.0]})
    with tempfile.TemporaryDirectory() as folder:
        mlflow.pyfunc.save_model(
            folder + "/m",
            python_model=Sum(),
            signature=infer_signature(rows, np.array([1.0])),
            pip_requirements=[],
        )
        return TestClient(scoring_server.init(mlflow.pyfunc.load_model(folder + "/m")))


def both(server, port):
    import requests

    url = f"http://127.0.0.1:{port}/invocations"
    said = {}
    for name, payload in PAYLOADS.items():
        body = json.dumps(payload)
        kind = {"Content-Type": "application/json"}
        a, b = (
            server.post("/invocations", content=body, headers=kind),
            requests.post(url, data=body, headers=kind, timeout=30),
        )
        said[name] = [[x.status_code, x.json()] for x in (a, b)]
    csv = "x0,x1\n1,2\n3.5,4\n"
    kind = {"Content-Type": "text/csv; charset=utf-8"}
    a = server.post("/invocations", content=csv, headers=kind)
    b = requests.post(url, data=csv, headers=kind, timeout=30)
    said["csv"] = [[x.status_code, x.json()] for x in (a, b)]
    return said


client = ScoringServerClient("127.0.0.1", int(sys.argv[1]))
client.wait_server_ready(timeout=10)
frame = pd.DataFrame({"x0": [1.0, 2.0], "x1": [10.0, 20.0]})
try:
    client.invoke(pd.DataFrame({"x0": [1.0]}))
    refused = None
except Exception as error:  # noqa: BLE001 - it is what the client raises
    refused = str(error)
print(
    json.dumps(
        {
            "frame": client.invoke(frame).get_predictions("ndarray").tolist(),
            "array": client.invoke(frame.to_numpy()).get_predictions()[0].tolist(),
            "objects": client.invoke([{"x0": 1.0, "x1": 10.0}])["predictions"],
            "version": client.get_version(),
            "refused": refused,
            "both": both(theirs(), sys.argv[1]),
        }
    )
)
