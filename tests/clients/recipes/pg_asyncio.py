"""asyncio: SQLAlchemy on asyncpg and on psycopg, an asyncpg pool whose `setup` binds, Tortoise, and SQLModel with a
column; FastAPI under uvicorn with uvloop."""

import contextlib
import contextvars

import fastapi
from recipe import NUMBERS, bearer, dsn, options, serve_asgi

OPTIONS = options(
    __doc__, ["sqlalchemy-asyncpg", "sqlalchemy-psycopg", "asyncpg-setup", "asyncpg-reset", "tortoise", "sqlmodel"]
)
WAY = OPTIONS.mode
current = contextvars.ContextVar("tenant", default=None)
READ = "SELECT tenant, item FROM orders WHERE item <> $1 ORDER BY id LIMIT 3"
KEY = "SELECT k.tenant_id, t.name FROM api_keys k JOIN tenants t ON t.id = k.tenant_id WHERE k.key = $1"


class SqlAlchemy:
    async def open(self):
        from sqlalchemy.ext.asyncio import create_async_engine

        driver = WAY.removeprefix("sqlalchemy-")
        self.engine = create_async_engine(
            dsn(OPTIONS, f"postgresql+{driver}"), pool_size=OPTIONS.pool, max_overflow=0, pool_timeout=60
        )

    async def work(self, key, ref, forgot):
        from sqlalchemy import text

        async with self.engine.begin() as connection:
            asked = await connection.execute(text(KEY.replace("$1", ":key")), {"key": key})
            name = asked.one().name
            if not forgot:
                await connection.execute(text("SELECT set_config('app.tenant_id', :t, true)"), {"t": name})
            found = await connection.execute(text(READ.replace("$1", ":ref")), {"ref": ref})
            rows = [tuple(row) for row in found.all()]
            await connection.execute(text("INSERT INTO visits (ref) VALUES (:ref)"), {"ref": ref})
            return rows


class Asyncpg:
    """`setup` runs each time a connection is acquired; when it is released the pool says RESET ALL, unless `reset` is
    another."""

    async def open(self):
        import asyncpg

        async def setup(connection):
            if current.get() is not None:
                await connection.execute("SELECT set_config('app.tenant_id', $1, false)", current.get())

        async def reset(connection):
            await connection.execute("SELECT set_config('app.tenant_id', '', false)")

        more = {"reset": reset} if WAY == "asyncpg-reset" else {}
        self.pool = await asyncpg.create_pool(
            dsn(OPTIONS), min_size=OPTIONS.pool, max_size=OPTIONS.pool, setup=setup, **more
        )

    async def work(self, key, ref, forgot):
        token = current.set(None if forgot else OPTIONS.tokens[key])
        try:
            async with self.pool.acquire() as connection:
                # Row security shows nothing to the unbound: the forgotten path reads a table without it.
                table = "stock" if forgot else "orders"
                rows = await connection.fetch(READ.replace("orders", table), ref)
                await connection.execute("INSERT INTO visits (ref) VALUES ($1)", ref)
                return [tuple(row) for row in rows]
        finally:
            current.reset(token)


class Tortoise:
    async def open(self):
        from tortoise import Tortoise as T

        url = f"asyncpg://app@127.0.0.1:{OPTIONS.upstream}/shop?minsize={OPTIONS.pool}&maxsize={OPTIONS.pool}"
        await T.init(db_url=url, modules={"models": ["tortoise_models"]}, _enable_global_fallback=True)

    async def work(self, key, ref, forgot):
        from tortoise.transactions import in_transaction

        async with in_transaction() as connection:
            asked = await connection.execute_query_dict(KEY, [key])
            if not forgot:
                await connection.execute_query("SELECT set_config('app.tenant_id', $1, true)", [asked[0]["name"]])
            rows = await connection.execute_query_dict(READ, [ref])
            await connection.execute_query("INSERT INTO visits (ref) VALUES ($1)", [ref])
            return [(row["tenant"], row["item"]) for row in rows]


class SqlModel:
    async def open(self):
        from sqlalchemy.ext.asyncio import create_async_engine
        from sqlmodel import Field, SQLModel

        class Doc(SQLModel, table=True):
            __tablename__ = "docs"
            id: int | None = Field(default=None, primary_key=True)
            tenant_id: int
            tenant: str
            item: str

        self.doc = Doc
        self.engine = create_async_engine(
            dsn(OPTIONS, "postgresql+asyncpg"), pool_size=OPTIONS.pool, max_overflow=0, pool_timeout=60
        )

    async def work(self, key, ref, forgot):
        from sqlmodel import select
        from sqlmodel.ext.asyncio.session import AsyncSession

        doc, tenant_id = self.doc, NUMBERS[OPTIONS.tokens[key]]
        async with AsyncSession(self.engine) as session:
            query = select(doc).where(doc.item != ref)
            if not forgot:
                query = query.where(doc.tenant_id == tenant_id)
            rows = [(row.tenant, row.item) for row in (await session.exec(query.limit(3))).all()]
            if not forgot:
                session.add(doc(tenant_id=tenant_id, tenant=OPTIONS.tokens[key], item=ref))
                await session.commit()
            return rows


how = {"asyncpg-setup": Asyncpg, "asyncpg-reset": Asyncpg, "tortoise": Tortoise, "sqlmodel": SqlModel}.get(WAY, SqlAlchemy)()


@contextlib.asynccontextmanager
async def lifespan(_):
    await how.open()
    yield


app = fastapi.FastAPI(lifespan=lifespan)


@app.get("/{kind}/{ref}")
async def work(kind: str, ref: str, request: fastapi.Request):
    found = await how.work(bearer(request.headers), ref, kind == "peek")
    return {"rows": [{"tenant": tenant, "item": item} for tenant, item in found], "ref": ref}


if __name__ == "__main__":
    serve_asgi(app)
