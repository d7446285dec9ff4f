"""A gateway whose pool is one connection: aiohttp in front; behind, requests of all tenants side by side as streams of HTTP/2.

Variants: grpc   a channel of grpcio, always in clear
          httpx  httpx' client over HTTP/2
Modes: as of service_gateway.py"""

import asyncio

import grpc
import httpx
from aiohttp import web
from google.protobuf.wrappers_pb2 import StringValue
from service_common import Truth, arguments, client_tls, start_aiohttp, whose
from service_tokens import token

MODES = ["forward", "exchange", "static"]


class Grpc:
    """Calls without generated code: the path goes, and the rows come, in a message that has one text."""

    def __init__(self, port):
        self.channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        self.get = self.method("/lab.v1.Orders/Get")

    def method(self, name):
        return self.channel.unary_unary(name, StringValue.SerializeToString, StringValue.FromString)

    async def port(self):
        """Of its own end of the connection, as the other end sees it. To ask for health is nobody's work."""
        return int((await self.method("/grpc.health.v1.Health/Check")(StringValue())).value)

    async def ask(self, path, headers):
        metadata = [(name.lower(), value) for name, value in headers.items()]
        return 200, (await self.get(StringValue(value=path), metadata=metadata)).value.encode()


class Httpx:
    def __init__(self, port):
        tls = client_tls()
        self.client = httpx.AsyncClient(
            base_url=f"{'https' if tls else 'http'}://127.0.0.1:{port}",
            verify=tls or True,
            http1=False,
            http2=True,
            limits=httpx.Limits(max_connections=1, max_keepalive_connections=1),
            timeout=60,
            trust_env=False,
        )

    async def port(self):
        async with self.client.stream("GET", "/healthz") as response:
            return response.extensions["network_stream"].get_extra_info("client_addr")[1]

    async def ask(self, path, headers):
        response = await self.client.get(path, headers=headers)
        return response.status_code, response.content


async def serve(options):
    truth = Truth(options.truth)
    upstream = {"grpc": Grpc, "httpx": Httpx}[options.variant](options.upstream)
    port = await upstream.port()

    async def answer(request):
        tenant = whose(options.tokens, request.headers)
        if tenant is None:
            return web.json_response({"error": "no such token"}, status=401)
        headers = {"Authorization": token(options.mode, tenant, request.headers)}
        if options.comment and "traceparent" in request.headers:
            headers["traceparent"] = request.headers["traceparent"]
        path = request.path if options.mode == "forward" else f"/api/v1{request.path}"
        truth.works(port, tenant)
        status, body = await upstream.ask(path, headers)
        return web.Response(status=status, body=body, content_type="application/json")

    await start_aiohttp(answer)
    await asyncio.Event().wait()


def main():
    asyncio.run(serve(arguments(__doc__, MODES)))


main()
