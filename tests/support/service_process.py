"""A service for clients in other processes: ``python service_process.py`` tells its ports."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import threading

import uvicorn

from support.service_client import application
from support.service_models import BoundedModel, EchoModel, HeldModel
from trivet.contract import Model
from trivet.hosts.service.exchange import Context
from trivet.hosts.service.protocols import oip_grpc
from trivet.testing import LinearModel


async def main() -> None:
    models: list[Model] = [
        LinearModel(weights=(1.0, 2.0)),
        LinearModel(weights=(1.0, 3.0), version="2"),
        EchoModel(),
        BoundedModel(on=[13.0]),
        HeldModel(go=threading.Event()),
    ]
    app = application(models)
    settings, loaded = app._settings, app._models
    loaded.find("held").batcher.quick = False  # or it would hold the event loop
    calls = oip_grpc.server(lambda name, began: Context(settings, loaded, name, began))
    grpc_port = calls.add_insecure_port("127.0.0.1:0")
    await calls.start()
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_level="warning", lifespan="off")
    print(json.dumps({"http": listening.getsockname()[1], "grpc": grpc_port}), flush=True)
    await uvicorn.Server(config).serve([listening])
    await calls.stop(1)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
