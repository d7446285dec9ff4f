"""What the lab's shared services in Python have in common: their arguments, whose a bearer token is, and the truth:
one JSON line per operation on a pooled connection, with the socket that carried it and the tenant it was for. The truth
goes to a file, where nobody who watches the traffic can see it."""

import argparse
import collections
import http.server
import json
import os
import ssl
import threading
import time


def arguments(doc, modes):
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--upstream", type=int, required=True, help="port of the database, cache or service behind")
    parser.add_argument("--truth", required=True, help="file for the truth")
    parser.add_argument("--tokens", type=json.loads, required=True, help="bearer token to tenant, as JSON")
    parser.add_argument("--mode", choices=modes, required=True)
    parser.add_argument("--pool", type=int, default=1, help="connections in the pool")
    parser.add_argument("--variant", default="", help="which library or server, where there are several")
    parser.add_argument("--comment", action="store_true", help="pass traceparent on")
    parser.add_argument("--cache", type=int, help="port of a cache for summaries")
    parser.add_argument("--job", choices=["unbound", "bound"], help="a background job that uses the pool, too")
    return parser.parse_args()


def client_tls():
    """How to speak TLS with what is behind a service; None where it is spoken to in clear."""
    certificate = os.environ.get("LAB_CERTIFICATE")
    return ssl.create_default_context(cafile=certificate) if certificate else None


def server_tls():
    """How to speak TLS with clients; None where they are spoken to in clear."""
    certificate = os.environ.get("LAB_CERTIFICATE")
    if not certificate:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, os.environ["LAB_KEY"])
    return context


class Truth:
    """Call `works` right before an operation is sent: the ordinal is its place among the operations of its socket."""

    def __init__(self, path):
        self.file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self.lock = threading.Lock()
        self.ordinals = collections.Counter()

    def works(self, port, tenant):
        with self.lock:
            ordinal = self.ordinals[port]
            self.ordinals[port] += 1
            line = {"port": port, "ordinal": ordinal, "tenant": tenant, "at": time.time()}
            os.write(self.file, (json.dumps(line) + "\n").encode())


def whose(tokens, headers):
    """The tenant that the bearer token stands for; None when it stands for nobody."""
    return tokens.get(headers.get("Authorization", "").removeprefix("Bearer "))


def trace_comment(headers):
    """The request's trace context as an SQL comment, as sqlcommenter writes it."""
    context = headers.get("traceparent")
    return f" /*traceparent='{context}'*/" if context else ""


def listening(port):
    print(f"PORT {port}", flush=True)


def serve_threads(answer):
    """Serves with a thread per connection until the end; `answer` gets method, path, headers and body, and gives status
    and what is to be sent as JSON."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # An answer goes out at once: its body would else wait until the client has acknowledged its head.
        wbufsize = -1

        def answer(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, content = answer(self.command, self.path, self.headers, body)
            content = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = answer

        def log_message(self, *_):
            pass

    class Server(http.server.ThreadingHTTPServer):
        request_queue_size = 128

    server = Server(("127.0.0.1", 0), Handler)
    listening(server.server_port)
    server.serve_forever()


async def start_aiohttp(answer, **options):
    """Serves with aiohttp from now on; `answer` is its handler."""
    from aiohttp import web

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None, **options)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server_tls())
    await site.start()
    listening(runner.addresses[0][1])
