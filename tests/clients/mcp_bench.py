"""Load for the bench of MCP: CONNECTIONS threads, each with a keep-alive connection and a session of its own, that call
one small tool. Carries out orders from standard input, {"calls": N} a line, and answers each with SEEN {"done": N}, the
calls that were answered with a result; READY first, DONE last."""

import argparse
import http.client
import json
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor

REVISION = "2025-11-25"


class Worker:
    def __init__(self, options):
        self.http = http.client.HTTPConnection("127.0.0.1", options.port, timeout=60)
        self.number = 0
        self.headers = {
            "accept": "application/json, text/event-stream",
            "authorization": f"Bearer {options.token}",
            "content-type": "application/json",
            "mcp-protocol-version": REVISION,
        }
        about = {"protocolVersion": REVISION, "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}}
        response, _ = self.post("initialize", about)
        self.headers["mcp-session-id"] = response.headers["mcp-session-id"]
        self.post("notifications/initialized", {}, notify=True)
        self.post("tools/list", {})

    def post(self, method, params, notify=False):
        body = {"jsonrpc": "2.0", "method": method, "params": params}
        if not notify:
            self.number += 1
            body["id"] = self.number
        self.http.request("POST", "/mcp", json.dumps(body), self.headers)
        response = self.http.getresponse()
        return response, response.read()

    def calls(self, n):
        done = 0
        for _ in range(n):
            arguments = {"ref": str(uuid.uuid4())}
            response, body = self.post("tools/call", {"name": "list_orders", "arguments": arguments})
            done += response.status == 200 and b'"result"' in body
        return done


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("port", type=int)
parser.add_argument("token")
parser.add_argument("--connections", type=int, default=4)
options = parser.parse_args()
workers = [Worker(options) for _ in range(options.connections)]
print("READY", flush=True)
with ThreadPoolExecutor(len(workers)) as pool:
    for line in sys.stdin:
        share = json.loads(line)["calls"] // len(workers)
        done = sum(pool.map(lambda worker: worker.calls(share), workers))
        print("SEEN " + json.dumps({"done": done}), flush=True)
print("DONE", flush=True)
