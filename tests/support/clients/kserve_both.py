# mypy: ignore-errors
"""What KServe's SDK gets from the service, over REST and gRPC, as JSON on standard output."""

import asyncio
import json
import sys

import grpc
import httpx
import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig


def request(binary, name="x0"):
    inputs = []
    for column, values in ((name, [1.0, 2.0]), ("x1", [10.0, 20.0])):
        tensor = InferInput(column, [2], "FP64")
        tensor.set_data_from_numpy(np.array(values), binary_data=binary)
        inputs.append(tensor)
    return InferRequest(model_name="linear", infer_inputs=inputs, request_id="mine")


async def failure(awaited):
    try:
        await awaited
    except httpx.HTTPStatusError as error:
        return [error.response.status_code, str(error)]
    except grpc.RpcError as error:
        return [error.code().name, error.details()]
    return None


async def main(http, rpc):
    url = f"http://127.0.0.1:{http}"
    rest = InferenceRESTClient(RESTConfig(protocol="v2"))
    calls = InferenceGRPCClient(f"127.0.0.1:{rpc}")
    said = {
        "live": await rest.is_server_live(url),
        "ready": await rest.is_server_ready(url),
        "model_ready": await rest.is_model_ready(url, "linear"),
        "nobody_ready": await rest.is_model_ready(url, "nobody"),
        "grpc_live": await calls.is_server_live(),
        "grpc_ready": await calls.is_server_ready(),
        "grpc_model_ready": await calls.is_model_ready("linear"),
        "grpc_nobody_ready": await failure(calls.is_model_ready("nobody")),
        "wrong_name": await failure(rest.infer(url, request(False, "nope"), "linear")),
        "grpc_wrong_name": await failure(calls.infer(request(False, "nope"))),
    }
    for name, binary in (("json", False), ("binary", True)):
        answer = await rest.infer(url, request(binary), "linear")
        said[name] = [answer.id, answer.outputs[0].as_numpy().tolist()]
        answer = await calls.infer(request(binary))
        said[f"grpc_{name}"] = [answer.id, answer.outputs[0].as_numpy().tolist()]
    await rest.close()
    await calls.close()
    print(json.dumps(said))


asyncio.run(main(*sys.argv[1:]))
