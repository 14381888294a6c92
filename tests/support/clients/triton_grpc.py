# mypy: ignore-errors
"""What tritonclient's gRPC client gets from the service, as JSON on standard output."""

import json
import sys

import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

client = triton.InferenceServerClient(f"127.0.0.1:{sys.argv[1]}")


def tensor(name, values, datatype):
    made = triton.InferInput(name, list(values.shape), datatype)
    made.set_data_from_numpy(values)
    return made


def failure(call):
    try:
        call()
    except InferenceServerException as error:
        return [error.status(), error.message()]
    return None


def linear(name="x0", model="linear", **more):
    x0 = tensor(name, np.array([1.0, 2.0]), "FP64")
    x1 = tensor("x1", np.array([10.0, 20.0]), "FP64")
    return client.infer(model, [x0, x1], **more)


result = linear(request_id="mine")
texts = client.infer(
    "bounded",
    [
        tensor("x0", np.array([[1.0], [2.0]]), "FP64"),
        tensor("n", np.array([3, 4], np.uint8), "UINT8"),
        tensor("x1", np.array([np.nan, 1.0]), "FP64"),
        tensor("zone", np.array(["é".encode(), b"b"], np.object_), "BYTES"),
    ],
)
metadata = client.get_model_metadata("linear", as_json=True)
print(
    json.dumps(
        {
            "live": client.is_server_live(),
            "ready": client.is_server_ready(),
            "model_ready": client.is_model_ready("linear"),
            "nobody_ready": failure(lambda: client.is_model_ready("nobody")),
            "server": client.get_server_metadata(as_json=True),
            "model": metadata,
            "infer": result.as_numpy("prediction").tolist(),
            "id": result.get_response().id,
            "texts": [t.decode() for t in texts.as_numpy("label").tolist()],
            "means": texts.as_numpy("mean").tolist(),
            "version": linear(model_version="1").as_numpy("prediction").tolist(),
            "wrong_name": failure(lambda: linear("nope")),
            "wrong_model": failure(lambda: linear(model="nobody")),
            "late": failure(
                lambda: client.infer(
                    "held", [tensor("x0", np.array([-1.0]), "FP64")], client_timeout=0.5
                )
            ),
        }
    )
)
