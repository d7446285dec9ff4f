"""Piccolo on asyncio (row-level security in its transaction, a schema per tenant) and Pony ORM (row-level security for the
session of the database)."""

import asyncio
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), ".."))

from recipe import bearer, dsn, options, serve_asgi, serve_wsgi

OPTIONS = options(__doc__, ["piccolo-rls", "piccolo-schema", "pony-rls"])
WAY = OPTIONS.mode


def other(name):
    return "globex" if name == "acme" else "acme"


def piccolo():
    import fastapi
    from piccolo.columns import Serial, Text
    from piccolo.engine.postgres import PostgresEngine
    from piccolo.table import Table

    engine = PostgresEngine(config={"dsn": dsn(OPTIONS)})

    class Orders(Table, tablename="orders", db=engine):
        id = Serial(primary_key=True)
        tenant = Text()
        item = Text()

    class Stock(Table, tablename="stock", db=engine):
        id = Serial(primary_key=True)
        tenant = Text()
        item = Text()

    class Visits(Table, tablename="visits", db=engine):
        ref = Text(primary_key=True)

    def of_schema(name):
        class ShopOrder(Table, tablename="shop_order", db=engine, schema=name):
            id = Serial(primary_key=True)
            tenant = Text()
            item = Text()

        return ShopOrder

    schemas = {name: of_schema(name) for name in ("acme", "globex")}

    async def lifespan(_):
        await engine.start_connection_pool(min_size=OPTIONS.pool, max_size=OPTIONS.pool)
        yield

    import contextlib

    app = fastapi.FastAPI(lifespan=contextlib.asynccontextmanager(lifespan))

    @app.get("/{kind}/{ref}")
    async def work(kind: str, ref: str, request: fastapi.Request):
        name, forgot = OPTIONS.tokens[bearer(request.headers)], kind == "peek"
        if WAY == "piccolo-schema":
            table = schemas[other(name) if forgot else name]
            rows = await table.select(table.tenant, table.item).where(table.item != ref).limit(3)
            return {"rows": rows, "ref": ref}
        async with engine.transaction():
            if not forgot:
                await Orders.raw("SELECT set_config('app.tenant_id', {}, true)", name)
            table = Stock if forgot else Orders
            rows = await table.select(table.tenant, table.item).where(table.item != ref).limit(3)
            await Visits.raw("INSERT INTO visits (ref) VALUES ({})", ref)
        return {"rows": rows, "ref": ref}

    serve_asgi(app)


def pony():
    from pony import orm

    db = orm.Database()

    class Order(db.Entity):
        _table_ = "orders"
        tenant = orm.Required(str)
        item = orm.Required(str)

    class Stock(db.Entity):
        _table_ = "stock"
        tenant = orm.Required(str)
        item = orm.Required(str)

    db.bind(provider="postgres", user="app", host="127.0.0.1", port=OPTIONS.upstream, database="shop")
    db.generate_mapping(create_tables=False, check_tables=False)

    def application(environ, start_response):
        name = OPTIONS.tokens[bearer({"Authorization": environ["HTTP_AUTHORIZATION"]})]
        _, kind, ref = environ["PATH_INFO"].split("/")
        # A session of the database is a transaction; its connection stays with the thread.
        with orm.db_session:
            if kind != "peek":
                db.execute("SELECT set_config('app.tenant_id', $name, true)")
            entity = Stock if kind == "peek" else Order
            found = entity.select_by_sql(
                f"SELECT id, tenant, item FROM {entity._table_} WHERE item <> $ref LIMIT 3", globals={"ref": ref}
            )
            rows = [{"tenant": row.tenant, "item": row.item} for row in found]
            db.execute("INSERT INTO visits (ref) VALUES ($ref)")
        body = json.dumps({"rows": rows, "ref": ref}).encode()
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body]

    # Pony keeps a connection for each thread.
    serve_wsgi(application, OPTIONS.pool)


if __name__ == "__main__":
    pony() if WAY == "pony-rls" else piccolo()
