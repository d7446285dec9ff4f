"""Flask with SQLAlchemy: the API key or the session is looked up before the tenant is bound, for the transaction; a schema
per tenant by `schema_translate_map`, by an event at checkout, by number; a role per tenant; a column."""

import contextvars

import flask
import sqlalchemy as sa
from recipe import NUMBERS, bearer, dsn, options, serve_wsgi
from sqlalchemy import orm

OPTIONS = options(
    __doc__,
    ["key", "session", "translate", "translate-number", "checkout", "role", "column", "per-connection"],
)
WAY = OPTIONS.mode
engine = sa.create_engine(
    dsn(OPTIONS, "postgresql+psycopg"), pool_size=OPTIONS.pool, max_overflow=0, pool_timeout=60,
    pool_pre_ping=WAY == "key",
)
current = contextvars.ContextVar("tenant", default=None)
app = flask.Flask(__name__)
metadata = sa.MetaData()
orders_table = sa.Table(
    "shop_order" if WAY in ("translate", "translate-number", "checkout") else "orders", metadata,
    sa.Column("id", sa.Integer, primary_key=True), sa.Column("tenant", sa.Text), sa.Column("item", sa.Text),
    schema="tenant" if WAY.startswith("translate") else None,
)
docs_table = sa.Table(
    "docs", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("tenant_id", sa.Integer),
    sa.Column("tenant", sa.Text), sa.Column("item", sa.Text),
)
visits = sa.Table("visits", metadata, sa.Column("ref", sa.Text))
api_keys = sa.Table("api_keys", metadata, sa.Column("key", sa.Text), sa.Column("tenant_id", sa.Integer))
sessions = sa.Table(
    "sessions", metadata, sa.Column("id", sa.Text), sa.Column("tenant_id", sa.Integer), sa.Column("data", sa.Text),
    sa.Column("seen", sa.DateTime),
)
tenants = sa.Table("tenants", metadata, sa.Column("id", sa.Integer), sa.Column("name", sa.Text))
plans = sa.Table("plans", metadata, sa.Column("id", sa.Integer), sa.Column("name", sa.Text), schema="public")

if WAY == "checkout":

    @sa.event.listens_for(engine, "checkout")
    def set_path(connection, *_):
        if current.get() is not None:
            connection.execute(f"SET search_path TO {current.get()}, public")
            connection.commit()


def look_up(session):
    """Whose the request is, from the database."""
    key = bearer(flask.request.headers)
    if WAY == "session":
        found = session.execute(sa.select(sessions.c.tenant_id).where(sessions.c.id == key)).scalar_one()
        session.execute(sa.update(sessions).where(sessions.c.id == key).values(seen=sa.func.now()))
    else:
        found = session.execute(sa.select(api_keys.c.tenant_id).where(api_keys.c.key == key)).scalar_one()
    return session.execute(sa.select(tenants.c.name).where(tenants.c.id == found)).scalar_one()


def rows(session, table, ref):
    found = session.execute(sa.select(table.c.tenant, table.c.item).where(table.c.item != ref).limit(3)).all()
    return [{"tenant": row.tenant, "item": row.item} for row in found]


def other(name):
    return "globex" if name == "acme" else "acme"


@app.get("/<kind>/<ref>")
def work(kind, ref):
    forgot = kind == "peek"
    name = OPTIONS.tokens[bearer(flask.request.headers)]
    if WAY.startswith("translate"):
        # The bug: a map that was made for somebody else.
        whose = other(name) if forgot else name
        schema = whose if WAY == "translate" else f"c_{NUMBERS[whose]}"
        connection = engine.connect().execution_options(schema_translate_map={"tenant": schema})
        with orm.Session(bind=connection) as session, session.begin():
            found = rows(session, orders_table, ref)
            session.execute(sa.insert(visits).values(ref=ref))
        connection.close()
    elif WAY == "checkout":
        token = current.set(None if forgot else name)
        with orm.Session(engine) as session, session.begin():
            found = rows(session, orders_table, ref)
            session.execute(sa.select(plans.c.name)).all()
        current.reset(token)
    elif WAY == "role":
        with engine.connect() as connection:
            if not forgot:
                connection.exec_driver_sql(f"SET ROLE tenant_{name}")
            found = rows(connection, orders_table, ref)
            if not forgot:
                connection.exec_driver_sql("RESET ROLE")
            connection.commit()
    elif WAY == "column":
        with orm.Session(engine) as session, session.begin():
            tenant_id = session.execute(
                sa.select(api_keys.c.tenant_id).where(api_keys.c.key == bearer(flask.request.headers))
            ).scalar_one()
            query = sa.select(docs_table.c.tenant, docs_table.c.item).where(docs_table.c.item != ref)
            if not forgot:
                query = query.where(docs_table.c.tenant_id == tenant_id)
            found = [{"tenant": r.tenant, "item": r.item} for r in session.execute(query.limit(3)).all()]
    else:
        with orm.Session(engine) as session, session.begin():
            name = look_up(session)
            if not forgot:
                session.execute(sa.text("SELECT set_config('app.tenant_id', :t, :local)"),
                                {"t": name, "local": WAY != "per-connection"})
            found = rows(session, orders_table, ref)
            session.execute(sa.insert(visits).values(ref=ref))
    return {"rows": found, "ref": ref}


if __name__ == "__main__":
    serve_wsgi(app, 2 * OPTIONS.pool)
