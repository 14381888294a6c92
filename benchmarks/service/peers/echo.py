"""The floor: a bare JSON echo, an ASGI callable on the server that Trivet runs on.

python -m service.peers.echo PORT
"""

import sys
from typing import Any

import msgspec
import uvicorn

decode, encode = msgspec.json.Decoder().decode, msgspec.json.Encoder().encode


async def echo(scope: Any, receive: Any, send: Any) -> None:
    message = await receive()
    body = encode(decode(message.get("body") or b"{}"))
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


if __name__ == "__main__":
    uvicorn.run(
        echo,
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        lifespan="off",
        access_log=False,
        log_level="warning",
    )
