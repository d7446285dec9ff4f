"""A shared service before MariaDB, with a pool that all tenants share. Variants:
  sqlalchemy  a thread per connection; SQLAlchemy's pool of PyMySQL connections, rolled back when they come back
  connector   a thread per connection; MySQL Connector's pool, which sends COM_RESET_CONNECTION when they come back;
              statements are prepared by the server
  asyncmy     aiohttp; asyncmy's pool. Handlers give the thread away between their statements

Modes: unbound       nobody says for whom it is
       session-set   the variable that the view reads is set, but not by /peek
       per-checkout  it is set by whoever takes a connection
       predicate     every statement names its tenant
       change-user   whoever takes a connection becomes the tenant's user (connector)"""

import asyncio
import json

from service_common import Truth, arguments, serve_threads, start_aiohttp, trace_comment, whose
from sql_work import MYSQL, percent, route, statements

MODES = ["unbound", "session-set", "per-checkout", "predicate", "change-user"]


def account(user, options):
    return {
        "host": "127.0.0.1",
        "port": options.upstream,
        "user": user,
        "password": f"secret-of-{user}",
        "database": "shop",
    }


def rows_of(cursor, is_data):
    return cursor.fetchall() if is_data and cursor.description else []


class SqlAlchemy:
    def __init__(self, options):
        import pymysql
        import sqlalchemy

        self.engine = sqlalchemy.create_engine(
            "mysql+pymysql://",
            creator=lambda: pymysql.connect(**account("app", options)),
            pool_size=options.pool,
            max_overflow=0,
            pool_timeout=60,
        )

    def run(self, _tenant, work, before_data):
        rows = []
        with self.engine.begin() as connection:
            port = connection.connection.dbapi_connection._sock.getsockname()[1]
            for sql, parameters, is_data in work:
                if is_data:
                    before_data(port)
                result = connection.exec_driver_sql(percent(sql), tuple(parameters))
                rows += result.fetchall() if is_data and result.returns_rows else []
        return rows


class Connector:
    def __init__(self, options):
        import threading

        import mysql.connector.pooling

        self.mode = options.mode
        self.pool = mysql.connector.pooling.MySQLConnectionPool(
            pool_name="lab",
            pool_size=options.pool,
            use_pure=True,
            autocommit=True,
            # By itself it asks for a collation of MySQL 8's.
            collation="utf8mb4_general_ci",
            **account("app", options),
        )
        # The pool refuses who comes when it is empty; it does not let them wait.
        self.free = threading.BoundedSemaphore(options.pool)

    def run(self, tenant, work, before_data):
        rows = []
        with self.free:
            connection = self.pool.get_connection()
            try:
                if self.mode == "change-user":
                    user = f"tenant_{tenant}"
                    connection.cmd_change_user(user, f"secret-of-{user}", "shop")
                port = connection._cnx._socket.sock.getsockname()[1]
                for sql, parameters, is_data in work:
                    if is_data:
                        before_data(port)
                    with connection.cursor(prepared=True) as cursor:
                        cursor.execute(percent(sql), parameters)
                        rows += rows_of(cursor, is_data)
            finally:
                connection.close()
        return rows


class Asyncmy:
    def __init__(self, options):
        self.options = options

    async def open(self):
        import asyncmy

        self.pool = await asyncmy.create_pool(
            minsize=self.options.pool, maxsize=self.options.pool, autocommit=True, **account("app", self.options)
        )
        # The library does not tell a connection's port; the server does.
        self.ports = {}
        for connection in [await self.pool.acquire() for _ in range(self.options.pool)]:
            async with connection.cursor() as cursor:
                await cursor.execute("SELECT host FROM information_schema.processlist WHERE id = CONNECTION_ID()")
                host = (await cursor.fetchone())[0]
            self.ports[connection.thread_id()] = int(host.rsplit(":", 1)[1])
            await self.pool.release(connection)

    async def run(self, work, before_data):
        rows = []
        async with self.pool.acquire() as connection:
            port = self.ports[connection.thread_id()]
            for sql, parameters, is_data in work:
                if is_data:
                    before_data(port)
                async with connection.cursor() as cursor:
                    await cursor.execute(percent(sql), parameters)
                    rows += await cursor.fetchall() if is_data and cursor.description else []
                await asyncio.sleep(0)
        return rows


def asked(options, path, headers):
    """The tenant, its request's reference and the statements, or status and body of a refusal."""
    tenant, what = whose(options.tokens, headers), route(path)
    if tenant is None:
        return None, (401, {"error": "no such token"})
    if what is None:
        return None, (404, {"error": "no such path"})
    comment = trace_comment(headers) if options.comment else ""
    return (tenant, what[1], statements(options.mode, *what, tenant, comment, MYSQL)), None


def told(rows, ref):
    return 200, {"rows": [{"tenant": row[0], "item": row[1]} for row in rows], "ref": ref}


def threads(options, database):
    truth = Truth(options.truth)

    def answer(_method, path, headers, _body):
        request, refusal = asked(options, path, headers)
        if refusal:
            return refusal
        tenant, ref, work = request
        return told(database.run(tenant, work, lambda port: truth.works(port, tenant)), ref)

    serve_threads(answer)


async def one_thread(options, database):
    from aiohttp import web

    truth = Truth(options.truth)
    await database.open()

    async def answer(request):
        asked_for, refusal = asked(options, request.path, request.headers)
        if refusal:
            status, body = refusal
        else:
            tenant, ref, work = asked_for
            status, body = told(await database.run(work, lambda port: truth.works(port, tenant)), ref)
        return web.Response(status=status, text=json.dumps(body), content_type="application/json")

    await start_aiohttp(answer)
    await asyncio.Event().wait()


def main():
    options = arguments(__doc__, MODES)
    if options.variant == "asyncmy":
        asyncio.run(one_thread(options, Asyncmy(options)))
    else:
        threads(options, {"sqlalchemy": SqlAlchemy, "connector": Connector}[options.variant](options))


main()
