# mypy: ignore-errors
"""What tritonclient's HTTP client gets from the service, as JSON on standard output."""

import json
import sys

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

client = triton.InferenceServerClient(f"127.0.0.1:{sys.argv[1]}")


def tensor(name, values, datatype, binary=True):
    made = triton.InferInput(name, list(values.shape), datatype)
    made.set_data_from_numpy(values, binary_data=binary)
    return made


def failure(call):
    try:
        call()
    except InferenceServerException as error:
        return [error.status(), error.message()]
    return None


def linear(name="x0", datatype="FP64", binary=True, model="linear", outputs=None, **more):
    x0 = tensor(name, np.array([1, 2], np.dtype(more.pop("kind", "f8"))), datatype, binary)
    x1 = tensor("x1", np.array([10, 20], np.float64), "FP64", binary)
    return client.infer(model, [x0, x1], outputs=outputs, **more)


moments = np.array([b"2026-01-01T00:00:00Z", b"2026-01-02T03:04:05.000006Z"], np.object_)
echoed = {
    "bool": (np.array([True, False]), "BOOL"),
    "int8": (np.array([-128, 127], np.int8), "INT8"),
    "int16": (np.array([-5, 5], np.int16), "INT16"),
    "int32": (np.array([-6, 6], np.int32), "INT32"),
    "int64": (np.array([-(2**63), 2**63 - 1], np.int64), "INT64"),
    "float32": (np.array([0.1, -0.2], np.float32), "FP32"),
    "float64": (np.array([0.1, 1e300], np.float64), "FP64"),
    "string": (np.array(["déjà".encode(), b""], np.object_), "BYTES"),
    "timestamp": (moments, "BYTES"),
    "date": (np.array([b"2026-01-01", b"1999-12-31"], np.object_), "BYTES"),
}


def echo(binary):
    inputs = [tensor(f"in_{t}", values, kind, binary) for t, (values, kind) in echoed.items()]
    outputs = [triton.InferRequestedOutput(f"out_{t}", binary_data=binary) for t in echoed]
    result = client.infer("echo", inputs, outputs=outputs)
    said = {}
    for t, (values, kind) in echoed.items():
        found = result.as_numpy(f"out_{t}")
        if kind == "BYTES":
            found = [v.decode() if isinstance(v, bytes) else v for v in found.tolist()]
            said[t] = found == [v.decode() for v in values.tolist()]
        else:
            said[t] = found.dtype == values.dtype and found.tolist() == values.tolist()
    return said


asked = triton.InferRequestedOutput("prediction", binary_data=False)
result = linear(request_id="mine")
print(
    json.dumps(
        {
            "live": client.is_server_live(),
            "ready": client.is_server_ready(),
            "model_ready": client.is_model_ready("linear"),
            "version_ready": client.is_model_ready("linear", "1"),
            "nobody_ready": client.is_model_ready("nobody"),
            "server": client.get_server_metadata(),
            "model": client.get_model_metadata("echo"),
            "binary": result.as_numpy("prediction").tolist(),
            "id": result.get_response()["id"],
            "json": linear(binary=False, outputs=[asked]).as_numpy("prediction").tolist(),
            "version": linear(model_version="1").as_numpy("prediction").tolist(),
            "echo_binary": echo(True),
            "echo_json": echo(False),
            "wrong_name": failure(lambda: linear("nope")),
            "wrong_type": failure(lambda: linear(datatype="BOOL", kind="?")),
            "wrong_model": failure(lambda: linear(model="nobody")),
            "wrong_output": failure(
                lambda: linear(outputs=[triton.InferRequestedOutput("nothing")])
            ),
            "missing": failure(
                lambda: client.infer("linear", [tensor("x0", np.array([1.0]), "FP64")])
            ),
            "bad_row": failure(
                lambda: client.infer(
                    "linear",
                    [
                        tensor("x0", np.array([1.0, np.nan]), "FP64"),
                        tensor("x1", np.array([1.0, 1.0]), "FP64"),
                    ],
                )
            ),
            "wrong_shape": failure(
                lambda: client.infer("linear", [tensor("x0", np.ones((2, 3)), "FP64")])
            ),
        }
    )
)
