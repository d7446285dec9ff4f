"""An MCP server that all tenants share, on the official Python SDK (1.x or 2.x) with streamable HTTP. What it does wrong
is said by --ways, a list of words; without any it does everything right. Prints PORT N when it listens."""

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import socket

import uvicorn
from mcp.server.auth.middleware.auth_context import AuthContextMiddleware
from mcp.server.auth.middleware.bearer_auth import BearerAuthBackend, RequireAuthMiddleware
from mcp.server.auth.provider import AccessToken
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.routing import Mount

from mcp_tools import Database, Refused, Tools, Truth, flips

try:  # SDK 2.x
    import mcp_types as types

    TWO = True
except ImportError:
    from mcp import types

    TWO = False


def jwt_tenant(token, key):
    import jwt

    try:
        # What a careful server would demand is what the weak token lacks: this one only looks at the signature.
        claims = jwt.decode(token, key, algorithms=["EdDSA"], options={"verify_aud": False})
    except jwt.InvalidTokenError:
        return None
    return claims.get("tid") or claims["sub"].split("@")[-1]


class Verifier:
    """Whose a token is: from a list, or by its signature."""

    def __init__(self, tokens, key):
        self.tokens, self.key = tokens, key

    def whose(self, authorization):
        token = (authorization or "").removeprefix("Bearer ")
        return self.tokens.get(token) or (jwt_tenant(token, self.key) if self.key else None)

    async def verify_token(self, token):
        tenant = self.whose(token)
        return tenant and AccessToken(token=token, client_id=f"client-of-{tenant}", scopes=[], expires_at=None)


def sdk_auth(app, verifier):
    """The SDK's own: a token on every request, and, since it learnt to, a session only for whom it was opened."""
    return RequireAuthMiddleware(app, []), [
        Middleware(AuthenticationMiddleware, backend=BearerAuthBackend(verifier)),
        Middleware(AuthContextMiddleware),
    ]


def at_initialize(app, sessions, verifier):
    """The mistake: whoever initialized with a token is known by the session's id from then on."""

    async def handle(scope, receive, send):
        headers = {k.decode(): v.decode() for k, v in scope["headers"]}
        tenant = verifier.whose(headers.get("authorization")) or sessions.get(headers.get("mcp-session-id"))
        if tenant is None:
            await send({"type": "http.response.start", "status": 401, "headers": []})
            return await send({"type": "http.response.body", "body": b""})

        async def noting(message):
            if message["type"] == "http.response.start":
                for name, value in message["headers"]:
                    if name.lower() == b"mcp-session-id":
                        sessions[value.decode()] = tenant
            await send(message)

        await app(scope, receive, noting)

    return handle


def lenient(app):
    """The mistake: takes Mcp-Name from the body when the header says something else."""

    async def handle(scope, receive, send):
        body, more = b"", scope["method"] == "POST"
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body")
        name = (json.loads(body).get("params") or {}).get("name") if body else None
        if name:
            scope["headers"] = [(k, name.encode() if k == b"mcp-name" else v) for k, v in scope["headers"]]
        parts = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def again():
            return next(parts, None) or await receive()

        await app(scope, again, send)

    return handle


def server(options, tools, whose):
    version = "1.0.0"

    def listed(tenant):
        return [
            types.Tool(name=name, description=text, **{"input_schema" if TWO else "inputSchema": schema}, annotations=hints)
            for name, text, schema, hints in tools.listed(tenant)
        ]

    async def called(request, name, arguments):
        """(result as a structure, whether it failed)."""
        tenant = whose(request)
        try:
            return await tools.call(tenant, name, arguments or {}, request.headers), False
        except Refused as refused:
            return {"error": str(refused)}, True

    def told(answer, failed):
        text = [types.TextContent(type="text", text=json.dumps(answer))]
        return types.CallToolResult(content=text, **{"is_error" if TWO else "isError": failed})

    if TWO:
        scope = {"ttl_ms": 60_000, "cache_scope": "public" if "public" in tools.ways else "private"}

        async def on_list_tools(context, _params):
            return types.ListToolsResult(tools=listed(whose(context.request)), **scope)

        async def on_call_tool(context, params):
            return told(*await called(context.request, params.name, params.arguments))

        return Server("lab-orders", version=version, on_list_tools=on_list_tools, on_call_tool=on_call_tool)

    app = Server("lab-orders", version=version)

    @app.list_tools()
    async def list_tools():
        return listed(whose(app.request_context.request))

    @app.call_tool(validate_input=False)
    async def call_tool(name, arguments):
        return told(*await called(app.request_context.request, name, arguments))

    return app


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--truth", required=True, help="file for the truth")
    parser.add_argument("--tokens", type=json.loads, required=True, help="bearer token to tenant, as JSON")
    parser.add_argument("--key", help="file with the public key that tokens may be signed with")
    parser.add_argument("--ways", default="", help="words, parted by commas")
    parser.add_argument("--flip", help="when this file is there, a description changes; with --ways bumped the version, too")
    parser.add_argument("--database", type=int, help="port of PostgreSQL")
    parser.add_argument("--pool", type=int, default=1, help="connections to it")
    parser.add_argument("--upstream", type=int, help="port of an MCP server that does the work")
    parser.add_argument("--service-token", help="this server's own token there, or tokens by tenant, as JSON")
    return parser.parse_args()


def bound(ways):
    """Whether the next request binds its tenant."""
    if "unbound" in ways:
        return lambda: False
    if "half-bound" in ways:
        # One path of five has forgotten it.
        n = itertools.count(1)
        return lambda: next(n) % 5 != 0
    return lambda: True


def main():
    options = arguments()
    ways = set(options.ways.split(","))
    sessions, verifier = {}, Verifier(options.tokens, options.key and open(options.key).read())

    def whose(request):
        if "one-token" in ways:
            # It cannot tell: everybody comes with the same.
            return "acme"
        return verifier.whose(request.headers.get("authorization")) or sessions.get(request.headers.get("mcp-session-id"))

    database = options.database and Database(options.database, bound(ways), options.pool)
    upstream = None
    if options.upstream:
        from mcp_upstream import Upstream

        upstream = Upstream(options.upstream, options.service_token and json.loads(options.service_token), ways).orders
    tools = Tools(ways, database, Truth(options.truth), upstream)
    app = server(options, tools, whose)
    manager = StreamableHTTPSessionManager(app, json_response="json" in ways)
    handler, middleware = manager.handle_request, []
    if "at-initialize" in ways:
        handler = at_initialize(handler, sessions, verifier)
    else:
        handler, middleware = sdk_auth(handler, verifier)
    if "lenient" in ways:
        handler = lenient(handler)

    def flip():
        tools.changed = True
        if "bumped" in ways:
            app.version = "1.1.0"
        print("FLIPPED", flush=True)

    @contextlib.asynccontextmanager
    async def lifespan(_app):
        async with manager.run():
            if database:
                await database.pool.open(wait=True)
            waiting = asyncio.ensure_future(flips(options.flip, flip)) if options.flip else None
            yield
            if waiting:
                waiting.cancel()

    listener = socket.create_server(("127.0.0.1", 0))
    # asyncio sets it only where a socket says that it is TCP, which this one does not: each answer would take 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    print(f"PORT {listener.getsockname()[1]}", flush=True)
    web = Starlette(routes=[Mount("/mcp", app=handler)], middleware=middleware, lifespan=lifespan)
    # A client that waits for the agent between two requests keeps its connection.
    tls = {"ssl_certfile": os.environ["LAB_CERTIFICATE"], "ssl_keyfile": os.environ["LAB_KEY"]} if "LAB_KEY" in os.environ else {}
    config = uvicorn.Config(slash(web), log_level="warning", timeout_keep_alive=300, **tls)
    uvicorn.Server(config).run(sockets=[listener])
    os._exit(0)


def slash(app):
    """Starlette mounts only what ends with a slash; MCP's path does not."""

    async def handle(scope, receive, send):
        if scope.get("path") == "/mcp":
            scope = {**scope, "path": "/mcp/"}
        await app(scope, receive, send)

    return handle


main()
