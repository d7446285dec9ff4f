"""The HTTP service behind the gateway: who may see what is decided by the token of each request. --tokens maps a token
to the list of tenants whose rows it shows."""

import argparse
import asyncio
import json
import secrets

from aiohttp import web
from service_common import listening, server_tls


async def serve(tokens):
    sessions = {}

    def whose(request):
        """By the session's cookie where there is one: it was given for a token, or is one."""
        sid = request.cookies.get("sid")
        return tokens.get(sessions.get(sid, sid) or request.headers.get("Authorization", "").removeprefix("Bearer "))

    async def answer(request):
        tenants = whose(request)
        if tenants is None:
            return web.json_response({"error": "no such token"}, status=401)
        rows = [{"tenant": tenant, "item": f"item {n}"} for tenant in tenants for n in range(3)]
        response = web.json_response({"rows": rows, "path": request.path})
        if request.path == "/login":
            sid = secrets.token_hex(16)
            sessions[sid] = request.headers["Authorization"].removeprefix("Bearer ")
            response.set_cookie("sid", sid, httponly=True)
        return response

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server_tls())
    await site.start()
    listening(runner.addresses[0][1])
    await asyncio.Event().wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=json.loads, required=True)
    asyncio.run(serve(parser.parse_args().tokens))


main()
