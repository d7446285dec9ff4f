"""A shared service on one thread: aiohttp, and a pool of psycopg (variant `psycopg`) or asyncpg (variant `asyncpg`).
Handlers give the thread away between their statements. With --job, a background job uses the pool every 50 ms without
any request. With --cache, summaries are kept in Redis for a second, under a key that forgets whose they are."""

import asyncio
import itertools
import json
import socket

import asyncpg
import psycopg_pool
import redis.asyncio
from aiohttp import web
from service_common import Truth, arguments, start_aiohttp, trace_comment, whose
from sql_work import JOB_PAUSE, MODES, job, percent, route, statements


class Psycopg:
    def __init__(self, options):
        self.pool = psycopg_pool.AsyncConnectionPool(
            f"host=127.0.0.1 port={options.upstream} dbname=shop user=app",
            min_size=options.pool,
            max_size=options.pool,
            timeout=60,
            kwargs={"autocommit": options.mode == "session-set"},
            open=False,
        )

    async def open(self):
        await self.pool.open(wait=True)

    async def run(self, work, before_data):
        rows = []
        async with self.pool.connection() as connection:
            with socket.socket(fileno=connection.pgconn.socket) as borrowed:
                port = borrowed.getsockname()[1]
                borrowed.detach()
            for sql, parameters, is_data in work:
                if is_data:
                    before_data(port)
                cursor = await connection.execute(percent(sql), parameters)
                if is_data and cursor.description:
                    rows += await cursor.fetchall()
                await asyncio.sleep(0)
        return rows


class Asyncpg:
    def __init__(self, options):
        self.options = options

    async def open(self):
        self.pool = await asyncpg.create_pool(
            host="127.0.0.1",
            port=self.options.upstream,
            database="shop",
            user="app",
            min_size=self.options.pool,
            max_size=self.options.pool,
        )

    async def run(self, work, before_data):
        rows = []
        async with self.pool.acquire() as connection:
            port = connection._con._transport.get_extra_info("sockname")[1]
            transaction = None
            if self.options.mode == "per-transaction":
                transaction = connection.transaction()
                await transaction.start()
            for sql, parameters, is_data in work:
                if is_data:
                    before_data(port)
                got = await connection.fetch(sql, *parameters)
                rows += [tuple(row) for row in got] if is_data else []
                await asyncio.sleep(0)
            if transaction is not None:
                await transaction.commit()
        return rows


async def background(options, database, truth):
    for tenant in itertools.cycle(sorted(set(options.tokens.values()))):
        bound = options.job == "bound"
        # Without a binding it is nobody's work.
        whom = tenant if bound else None
        await database.run(job(bound, tenant), lambda port, whom=whom: truth.works(port, whom))
        await asyncio.sleep(JOB_PAUSE)


async def serve(options):
    truth = Truth(options.truth)
    database = {"psycopg": Psycopg, "asyncpg": Asyncpg}[options.variant or "psycopg"](options)
    await database.open()
    cache = redis.asyncio.Redis(host="127.0.0.1", port=options.cache) if options.cache else None

    async def answer(request):
        tenant, what = whose(options.tokens, request.headers), route(request.path)
        if tenant is None:
            return web.json_response({"error": "no such token"}, status=401)
        if what is None:
            return web.json_response({"error": "no such path"}, status=404)
        comment = trace_comment(request.headers) if options.comment else ""
        cached = await cache.get("summary") if cache and what[0] == "summary" else None
        if cached:
            return web.json_response({"rows": json.loads(cached), "ref": None})
        work = statements(options.mode, *what, tenant, comment)
        found = await database.run(work, lambda port: truth.works(port, tenant))
        rows = [{"tenant": row[0], "item": row[1]} for row in found]
        if cache and what[0] == "summary":
            await cache.set("summary", json.dumps(rows), ex=1)
        return web.json_response({"rows": rows, "ref": what[1]})

    await start_aiohttp(answer)
    if options.job:
        await background(options, database, truth)
    await asyncio.Event().wait()


def main():
    asyncio.run(serve(arguments(__doc__, MODES)))


main()
