"""A gateway: aiohttp in front, a pool of HTTP keep-alive connections (httpx) to one upstream service behind.

Modes: forward   the tenant's own token goes on, and the request as it came
       exchange  a token of the gateway's for this tenant; the upstream has paths of its own
       static    one token of the gateway's for everybody; likewise"""

import asyncio

import httpx
from aiohttp import web
from service_common import Truth, arguments, client_tls, start_aiohttp, whose
from service_tokens import token

MODES = ["forward", "exchange", "static"]


async def serve(options):
    truth = Truth(options.truth)
    limits = httpx.Limits(max_connections=options.pool, max_keepalive_connections=options.pool)
    tls = client_tls()
    upstream = httpx.AsyncClient(
        base_url=f"{'https' if tls else 'http'}://127.0.0.1:{options.upstream}",
        verify=tls or True,
        limits=limits,
        timeout=60,
        trust_env=False,
    )

    async def answer(request):
        tenant = whose(options.tokens, request.headers)
        if tenant is None:
            return web.json_response({"error": "no such token"}, status=401)
        headers = {"Authorization": token(options.mode, tenant, request.headers)}
        if options.comment and "traceparent" in request.headers:
            headers["traceparent"] = request.headers["traceparent"]
        path = request.path if options.mode == "forward" else f"/api/v1{request.path}"
        async with upstream.stream("GET", path, headers=headers) as response:
            # One request at a time on a connection: whoever has its response was the last to send.
            truth.works(response.extensions["network_stream"].get_extra_info("client_addr")[1], tenant)
            body = await response.aread()
        return web.Response(status=response.status_code, body=body, content_type="application/json")

    await start_aiohttp(answer)
    await asyncio.Event().wait()


def main():
    asyncio.run(serve(arguments(__doc__, MODES)))


main()
