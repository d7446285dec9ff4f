"""A tenant's MCP client over streamable HTTP, which can also do what no SDK would: WORKERS of them, each with a
keep-alive connection and a session of its own. Carries out the orders that come on standard input, one JSON object a
line: {"rounds": N, "steps": [STEP, ...]}. After each it prints SEEN {"results": [...], "sessions": [...]}, one result a
step: HTTP status, what came ("result", "tool_error", an error code or ""), and its text; READY first, DONE last.

A step is {"op": "initialize" | "list" | "call" | "join" | "end"} with, for a call, "tool" and "arguments" ({new} in them
is a fresh id, {last} the one before), "headers", "anonymous" (no token), "id" (of the request), "patience" in
milliseconds (then the call is given up); for join, "sessions": one of them for each worker."""

import argparse
import asyncio
import itertools
import json
import sys
import uuid

import httpx
from service_common import client_tls

STATELESS = "2026-07-28"


class Worker:
    def __init__(self, options, number):
        self.options, self.number = options, number
        self.http = self.connect()
        self.session, self.last, self.export = None, "", ""
        self.ids = itertools.count(1)

    def connect(self):
        tls = client_tls()
        base = f"{'https' if tls else 'http'}://127.0.0.1:{self.options.port}"
        return httpx.AsyncClient(base_url=base, timeout=60, verify=tls or True)

    def fill(self, value):
        if isinstance(value, dict):
            return {k: self.fill(v) for k, v in value.items()}
        if not isinstance(value, str):
            return value
        if "{new}" in value:
            self.last = str(uuid.uuid4())
        for name, text in (("{new}", self.last), ("{last}", self.last), ("{export}", self.export)):
            value = value.replace(name, text)
        return value

    def headers(self, step):
        own = {"accept": "application/json, text/event-stream", "mcp-protocol-version": self.options.revision}
        if not step.get("anonymous"):
            own["authorization"] = f"Bearer {self.options.token}"
        if self.session:
            own["mcp-session-id"] = self.session
        return own | self.fill(step.get("headers", {}))

    async def post(self, step, method, params, notify=False):
        body = {"jsonrpc": "2.0", "method": method, "params": params}
        if not notify:
            body["id"] = step.get("id") or next(self.ids)
        headers = {}
        if self.options.revision == STATELESS:
            headers = {"mcp-method": method} | ({"mcp-name": params["name"]} if "name" in params else {})
            params["_meta"] = {
                "io.modelcontextprotocol/protocolVersion": STATELESS,
                "io.modelcontextprotocol/clientCapabilities": {},
                "io.modelcontextprotocol/clientInfo": {"name": "lab", "version": "1"},
            }
        sent = self.http.post("/mcp", json=body, headers=headers | self.headers(step))
        try:
            return await asyncio.wait_for(sent, step["patience"] / 1000 if "patience" in step else 60)
        except asyncio.TimeoutError:
            # What a client that has no more patience does: it hangs up.
            await self.http.aclose()
            self.http = self.connect()
            return None

    async def step(self, step):
        op = step["op"]
        if op == "join":
            self.session = step["sessions"][self.number % len(step["sessions"])]
            return None
        if op == "end":
            response = await self.http.delete("/mcp", headers=self.headers(step))
            return {"status": response.status_code, "what": "", "text": ""}
        if op == "initialize":
            self.session = None
            about = {"protocolVersion": self.options.revision, "capabilities": {}}
            response = await self.post(step, "initialize", about | {"clientInfo": {"name": "lab", "version": "1"}})
            self.session = response.headers.get("mcp-session-id")
            await self.post(step, "notifications/initialized", {}, notify=True)
        elif op == "list":
            response = await self.post(step, "tools/list", {})
        else:
            response = await self.post(
                step, "tools/call", {"name": step["tool"], "arguments": self.fill(step.get("arguments", {}))}
            )
        return self.told(response)

    def told(self, response):
        if response is None:
            return {"status": 0, "what": "", "text": "gave up"}
        text, what = response.text, ""
        if "text/event-stream" in response.headers.get("content-type", ""):
            text = next((line[5:] for line in reversed(text.splitlines()) if line.startswith("data:") and line[5:].strip()), "")
        try:
            answer = json.loads(text)
        except ValueError:
            answer = None
        if isinstance(answer, dict) and "error" in answer:
            what, text = str(answer["error"]["code"]), answer["error"]["message"]
        elif isinstance(answer, dict) and "result" in answer:
            result = answer["result"]
            what = "tool_error" if result.get("isError") else "result"
            if "tools" in result:
                text = " ".join(tool["name"] for tool in result["tools"])
            elif result.get("content"):
                text = result["content"][0].get("text", "")
                if what == "result" and "export_id" in text:
                    self.export = json.loads(text)["export_id"]
        return {"status": response.status_code, "what": what, "text": text[:400]}

    async def run(self, order):
        results = []
        for _ in range(order.get("rounds", 1)):
            for step in order["steps"]:
                result = await self.step(step)
                if result:
                    results.append({"op": step["op"]} | result)
        return results


async def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("token")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--revision", default="2025-11-25")
    options = parser.parse_args()
    workers = [Worker(options, number) for number in range(options.workers)]
    print("READY", flush=True)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        order = json.loads(line)
        results = await asyncio.gather(*(worker.run(order) for worker in workers))
        seen = {
            "results": [result for of_one in results for result in of_one],
            "sessions": [worker.session for worker in workers if worker.session],
            "exports": [worker.export for worker in workers if worker.export],
        }
        print("SEEN " + json.dumps(seen), flush=True)
    for worker in workers:
        await worker.http.aclose()
    print("DONE", flush=True)


asyncio.run(main())
