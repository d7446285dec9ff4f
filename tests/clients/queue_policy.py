"""A policy server in the manner of OPA (`POST /v1/data/…`), and an HTTP service that verifies tokens (`/records`)."""

import argparse
import asyncio
import json

import jwt
from aiohttp import web
from queue_common import SERVICE_TOKEN


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--secret", required=True, help="the key of the tokens")
    options = parser.parse_args()

    async def allow(request):
        asked = (await request.json())["input"]
        return web.json_response({"result": asked.get("tenant") in ("acme", "globex")})

    async def records(request):
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        ref = json.loads(await request.read())["ref"]
        if token == SERVICE_TOKEN:
            return web.json_response({"ref": ref, "kept_for": None})
        try:
            claims = jwt.decode(token, options.secret, algorithms=["HS256"], audience="records")
        except jwt.InvalidTokenError:
            return web.json_response({"error": "no such token"}, status=401)
        return web.json_response({"ref": ref, "kept_for": claims["tenant_id"]})

    app = web.Application()
    app.router.add_post("/v1/data/{path:.*}", allow)
    app.router.add_post("/records", records)

    async def serve():
        runner = web.AppRunner(app, access_log=None, keepalive_timeout=300)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        print(f"PORT {runner.addresses[0][1]}", flush=True)
        return runner

    loop = asyncio.new_event_loop()
    loop.run_until_complete(serve())
    loop.run_forever()


main()
