"""A gateway that logs each tenant in at an HTTP service and then relies on the session's cookie: a cookie for each tenant
(`own-jar`), or httpx's one jar for everybody (`one-jar`), in which the last login wins."""

import asyncio

import httpx
from aiohttp import web
from recipe import bearer, options

OPTIONS = options(__doc__, ["own-jar", "one-jar"])


async def main():
    limits = httpx.Limits(max_connections=OPTIONS.pool, max_keepalive_connections=OPTIONS.pool)
    upstream = httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{OPTIONS.upstream}", limits=limits, timeout=60, trust_env=False
    )
    own, lock = {}, asyncio.Lock()

    async def login(token):
        answer = await upstream.get("/login", headers={"Authorization": f"Bearer {token}"})
        own[token] = answer.cookies["sid"]
        if OPTIONS.mode == "own-jar":
            upstream.cookies.clear()

    async def answer(request):
        token = bearer(request.headers)
        async with lock:
            if token not in own:
                await login(token)
        headers = {"Cookie": f"sid={own[token]}"} if OPTIONS.mode == "own-jar" else {}
        got = await upstream.get(f"/api{request.path}", headers=headers)
        return web.Response(status=got.status_code, body=got.content, content_type="application/json")

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None, keepalive_timeout=300)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(f"PORT {runner.addresses[0][1]}", flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
