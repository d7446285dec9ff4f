"""What recipes in Python have in common: their arguments, whose a token is, and how they serve. `/orders/REF` does the
work as the framework's documentation has it; `/peek/REF` is the path that somebody forgot."""

import argparse
import json
import socket

NUMBERS = {"acme": 1842, "globex": 2077}


def options(doc, ways):
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--upstream", type=int, required=True, help="port of the database or cache")
    parser.add_argument("--truth", help="not written: the rows tell")
    parser.add_argument("--tokens", type=json.loads, required=True, help="bearer token to tenant, as JSON")
    parser.add_argument("--mode", choices=ways, required=True)
    parser.add_argument("--pool", type=int, default=1, help="connections in the pool")
    return parser.parse_args()


def bearer(headers):
    return headers.get("Authorization", "").removeprefix("Bearer ")


def dsn(options, scheme="postgresql"):
    return f"{scheme}://app@127.0.0.1:{options.upstream}/shop"


def serve_wsgi(app, threads):
    import waitress.server

    server = waitress.server.create_server(app, host="127.0.0.1", port=0, threads=threads)
    print(f"PORT {server.effective_port}", flush=True)
    server.run()


def serve_asgi(app, loop="uvloop"):
    import uvicorn

    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    print(f"PORT {listener.getsockname()[1]}", flush=True)
    config = uvicorn.Config(app, loop=loop, log_level="warning", lifespan="on", timeout_keep_alive=300)
    uvicorn.Server(config).run(sockets=[listener])
