"""A shared service on one thread: aiohttp, and a pool of redis-py connections that all tenants share. A request that
its client gives up is cancelled, as the framework does when it is told to.

Modes: prefix     every key begins with the tenant
       crossed    the same, but /crossed/REF has another tenant's prefix built in
       unscoped   no tenant in any key
       auth       each checkout authenticates as the tenant's user, and checks that it worked
       auth-sent  each checkout sends AUTH and the command together, and nobody looks at AUTH's answer"""

import asyncio
import json
import os

import redis
import redis.asyncio
from aiohttp import web
from service_common import Truth, arguments, start_aiohttp, whose

MODES = ["prefix", "crossed", "unscoped", "auth", "auth-sent"]


class Store:
    def __init__(self, options):
        self.mode = options.mode
        self.truth = Truth(options.truth)
        certificate = os.environ.get("LAB_CERTIFICATE")
        self.pool = redis.asyncio.BlockingConnectionPool(
            host="127.0.0.1",
            port=options.upstream,
            max_connections=options.pool,
            timeout=60,
            **({"connection_class": redis.asyncio.SSLConnection, "ssl_ca_certs": certificate} if certificate else {}),
        )
        self.client = redis.asyncio.Redis(connection_pool=self.pool)

    def key(self, kind, tenant, ref):
        if self.mode in ("prefix", "crossed"):
            owner = "acme" if kind == "crossed" else tenant
            return f"{owner}:orders:{ref}"
        return f"orders:{ref}"

    async def run(self, tenant, *command):
        if self.mode.startswith("auth"):
            return await self.as_user(tenant, command)
        # The connection that the library will take is known only while the command runs: ask it there.
        return await Told(self, tenant).execute_command(*command)

    async def as_user(self, tenant, command):
        connection = await self.pool.get_connection("AUTH")
        try:
            user, password = f"tenant_{tenant}", f"secret-of-{tenant}"
            if self.mode == "auth":
                await connection.send_command("AUTH", user, password)
                await connection.read_response()
                self.works(connection, tenant)
                await connection.send_command(*command)
                return await connection.read_response()
            # One write for both; the second is answered whatever became of the first.
            packed = connection.pack_commands([("AUTH", user, password), command])
            self.works(connection, tenant)
            await connection.send_packed_command(packed)
            try:
                # By itself the library would close the connection when AUTH is refused.
                await connection.read_response(disconnect_on_error=False)
            except redis.RedisError:
                pass
            return await connection.read_response()
        finally:
            await self.pool.release(connection)

    def works(self, connection, tenant):
        self.truth.works(connection._writer.get_extra_info("sockname")[1], tenant)


class Told(redis.asyncio.Redis):
    """The library's own client, which tells the truth before a command goes out."""

    def __init__(self, store, tenant):
        super().__init__(connection_pool=store.pool)
        # The pool is not this object's to close.
        self.auto_close_connection_pool = False
        self.store, self.tenant = store, tenant

    async def _send_command_parse_response(self, connection, *args, **options):
        self.store.works(connection, self.tenant)
        return await super()._send_command_parse_response(connection, *args, **options)


async def serve(options):
    store = Store(options)

    async def answer(request):
        tenant = whose(options.tokens, request.headers)
        if tenant is None:
            return web.json_response({"error": "no such token"}, status=401)
        _, kind, ref = request.path.split("/")
        key = store.key(kind, tenant, ref)
        if request.method == "PUT":
            item = json.loads(await request.read())["item"]
            await store.run(tenant, "SET", key, json.dumps({"tenant": tenant, "item": item}))
            return web.json_response({"rows": [], "ref": ref})
        value = await store.run(tenant, "GET", key)
        return web.json_response({"rows": [json.loads(value)] if value else [], "ref": ref})

    await start_aiohttp(answer, handler_cancellation=True)
    await asyncio.Event().wait()


def main():
    asyncio.run(serve(arguments(__doc__, MODES)))


main()
