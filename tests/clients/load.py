"""A tenant's HTTP client: WORKERS keep-alive connections to a shared service, one request in flight on each. Carries
out the orders that come on standard input, one JSON object a line:
  {"rounds": N, "steps": [STEP, ...], "hang_up": MILLISECONDS or null}
After each order it prints SEEN {"answers": N, "rows": {TENANT: N}, "gave_up": N}, with the rows by the tenant they
belong to; READY before the first order, DONE after the last.

A step is METHOD PATH, with {new} (a fresh id), {last} (the connection's last fresh one), {few} (one of five that every
tenant uses). A PUT carries an item of its own. With hang_up, the connection is closed when the answer takes longer."""

import argparse
import asyncio
import collections
import json
import random
import secrets
import sys
import uuid

import aiohttp
from service_common import client_tls

TLS = client_tls()


class Worker:
    def __init__(self, options, seed):
        self.options = options
        self.random = random.Random(seed)
        self.last = None
        self.session = aiohttp.ClientSession(
            f"{'https' if TLS else 'http'}://127.0.0.1:{options.port}",
            connector=aiohttp.TCPConnector(limit=1, keepalive_timeout=300, ssl=TLS or True),
            headers={"Cookie": f"sid={options.token}"} if options.cookie else {"Authorization": f"Bearer {options.token}"},
        )

    def path(self, pattern):
        if "{new}" in pattern:
            self.last = str(uuid.uuid4())
        return pattern.replace("{new}", self.last or "").replace("{last}", self.last or "").replace(
            "{few}", str(self.random.randint(1, 5))
        )

    async def step(self, step, seen):
        method, pattern = step.split(" ")
        headers, body = {}, None
        if self.options.trace:
            headers["traceparent"] = f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"
        if method == "PUT":
            body = {"item": f"item-{uuid.uuid4()}"}
        async with self.session.request(method, self.path(pattern), headers=headers, json=body) as response:
            answer = await response.json()
            if response.status != 200:
                raise SystemExit(f"{step} was answered {response.status}: {answer}")
            seen["answers"] += 1
            seen["rows"].update(row["tenant"] for row in answer["rows"])

    async def run(self, order, seen):
        limit = order.get("hang_up")
        for _ in range(order["rounds"]):
            for step in order["steps"]:
                try:
                    await asyncio.wait_for(self.step(step, seen), limit / 1000 if limit else 60)
                except asyncio.TimeoutError:
                    if not limit:
                        raise SystemExit(f"{step} was not answered")
                    seen["gave_up"] += 1


async def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("token")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--trace", action="store_true", help="a traceparent header in each request")
    parser.add_argument("--cookie", action="store_true", help="the token as a session's cookie")
    options = parser.parse_args()
    workers = [Worker(options, seed) for seed in range(options.workers)]
    print("READY", flush=True)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        order = json.loads(line)
        seen = {"answers": 0, "rows": collections.Counter(), "gave_up": 0}
        await asyncio.gather(*(worker.run(order, seen) for worker in workers))
        print("SEEN " + json.dumps(seen), flush=True)
    for worker in workers:
        await worker.session.close()
    print("DONE", flush=True)


asyncio.run(main())
