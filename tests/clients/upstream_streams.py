"""The service behind the gateway that speaks HTTP/2: as upstream_http.py, over gRPC (grpcio) or plain (hypercorn)."""

import argparse
import asyncio
import json
import os
import random
import socket

import grpc
from google.protobuf.wrappers_pb2 import StringValue
from hypercorn.asyncio import serve as hypercorn
from hypercorn.config import Config
from service_common import listening


async def answer(tokens, authorization, path):
    """The rows that a token shows; None for one that is not known. In another order than they were asked for."""
    await asyncio.sleep(random.uniform(0.001, 0.008))
    tenants = tokens.get(authorization.removeprefix("Bearer "))
    if tenants is None:
        return None
    rows = [{"tenant": tenant, "item": f"item {n}"} for tenant in tenants for n in range(3)]
    return json.dumps({"rows": rows, "path": path})


class Orders(grpc.GenericRpcHandler):
    def __init__(self, tokens):
        self.tokens = tokens

    def service(self, call):
        handle = {"/lab.v1.Orders/Get": self.get, "/grpc.health.v1.Health/Check": self.check}.get(call.method)
        return handle and grpc.unary_unary_rpc_method_handler(
            handle, StringValue.FromString, StringValue.SerializeToString
        )

    async def check(self, _, context):
        return StringValue(value=context.peer().rsplit(":", 1)[1])

    async def get(self, path, context):
        authorization = dict(context.invocation_metadata()).get("authorization", "")
        rows = await answer(self.tokens, authorization, path.value)
        if rows is None:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "no such token")
        return StringValue(value=rows)


async def serve_grpc(tokens):
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([Orders(tokens)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    listening(port)
    await server.wait_for_termination()


async def serve_plain(tokens):
    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            while True:
                event = await receive()
                await send({"type": f"{event['type']}.complete"})
        authorization = dict(scope["headers"]).get(b"authorization", b"").decode()
        path = scope["path"]
        rows = "{}" if path == "/healthz" else await answer(tokens, authorization, path)
        start = {"type": "http.response.start", "status": 401 if rows is None else 200}
        await send(start | {"headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": (rows or "{}").encode()})

    listener = socket.create_server(("127.0.0.1", 0))
    config = Config()
    config.bind = [f"fd://{listener.fileno()}"]
    config.certfile, config.keyfile = os.environ.get("LAB_CERTIFICATE"), os.environ.get("LAB_KEY")
    listening(listener.getsockname()[1])
    await hypercorn(app, config)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=json.loads, required=True)
    parser.add_argument("--variant", choices=["grpc", "httpx"], required=True)
    options = parser.parse_args()
    serve = serve_grpc if options.variant == "grpc" else serve_plain
    asyncio.run(serve(options.tokens))


main()
