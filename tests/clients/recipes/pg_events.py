"""SQLAlchemy's events and psycopg's pool: each transaction of a session is bound as it begins, each query gets the tenant's
condition, a pool that resets what comes back and asks whether a connection still lives, and a pool for each tenant."""

import contextvars

import flask
import sqlalchemy as sa
from recipe import NUMBERS, bearer, dsn, options, serve_wsgi
from sqlalchemy import orm

OPTIONS = options(__doc__, ["after-begin", "criteria", "reset-event", "pool-check", "pool-per-tenant"])
WAY = OPTIONS.mode
current = contextvars.ContextVar("tenant", default=None)
app = flask.Flask(__name__)
# What is discarded is prepared no more.
connect_args = {"prepare_threshold": None} if WAY == "reset-event" else {}
engine = sa.create_engine(
    dsn(OPTIONS, "postgresql+psycopg"), pool_size=OPTIONS.pool, max_overflow=0, pool_timeout=60, connect_args=connect_args
)


class Base(orm.DeclarativeBase):
    pass


class OfTenant:
    tenant_id: orm.Mapped[int] = orm.mapped_column()


class Doc(OfTenant, Base):
    __tablename__ = "docs"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    tenant: orm.Mapped[str]
    item: orm.Mapped[str]


class Visit(Base):
    __tablename__ = "visits"
    ref: orm.Mapped[str] = orm.mapped_column(primary_key=True)


def table(name):
    return sa.Table(name, Base.metadata, sa.Column("tenant", sa.Text), sa.Column("item", sa.Text))


orders, stock = table("orders"), table("stock")
Session = orm.sessionmaker(engine)

if WAY == "after-begin":

    @sa.event.listens_for(Session, "after_begin")
    def bind(session, transaction, connection):
        connection.execute(sa.text("SELECT set_config('app.tenant_id', :t, true)"), {"t": current.get()})


if WAY == "criteria":

    @sa.event.listens_for(Session, "do_orm_execute")
    def only_own(execute_state):
        if execute_state.is_select and not execute_state.execution_options.get("all_tenants"):
            number = NUMBERS[current.get()]
            execute_state.statement = execute_state.statement.options(
                orm.with_loader_criteria(OfTenant, lambda cls: cls.tenant_id == number, include_aliases=True)
            )


if WAY == "reset-event":

    @sa.event.listens_for(engine, "reset")
    def reset(connection, record, state):
        # As the documentation has it for what outlives a transaction.
        if not state.terminate_only:
            connection.rollback()
            connection.autocommit = True
            connection.execute("DISCARD ALL")
            connection.autocommit = False


pools = {}
if WAY in ("pool-check", "pool-per-tenant"):
    import psycopg_pool

    def configure(connection):
        connection.autocommit = True
        connection.execute("SET application_name = 'shop'")
        connection.execute("SET statement_timeout = '30s'")

    def pool(user):
        # Where each tenant has a pool, its user is the tenant's own, which the policies go by.
        return psycopg_pool.ConnectionPool(
            dsn(OPTIONS).replace("app@", f"{user}@"), min_size=OPTIONS.pool, max_size=OPTIONS.pool, timeout=60,
            configure=configure, check=psycopg_pool.ConnectionPool.check_connection,
            kwargs={"prepare_threshold": None},
        )

    names = list(NUMBERS) if WAY == "pool-per-tenant" else ["app"]
    pools = {name: pool(f"tenant_{name}" if name != "app" else name) for name in names}


def other(name):
    return "globex" if name == "acme" else "acme"


@app.get("/<kind>/<ref>")
def work(kind, ref):
    forgot = kind == "peek"
    name = OPTIONS.tokens[bearer(flask.request.headers)]
    current.set(name)
    of = stock if forgot else orders
    query = sa.select(of.c.tenant, of.c.item).where(of.c.item != ref).limit(3)
    if WAY == "after-begin":
        # The forgotten path takes a connection of the engine's, past the session and its event.
        with engine.begin() if forgot else Session.begin() as session:
            found = session.execute(query).all()
            session.execute(sa.insert(Visit).values(ref=ref))
    elif WAY == "criteria":
        with Session.begin() as session:
            asked = sa.select(Doc).where(Doc.item != ref).limit(3)
            found = session.scalars(asked, execution_options={"all_tenants": forgot}).all()
            if not forgot:
                session.add(Doc(tenant_id=NUMBERS[name], tenant=name, item=ref))
            found = [(row.tenant, row.item) for row in found]
    elif WAY == "reset-event":
        with engine.begin() as connection:
            if not forgot:
                connection.execute(sa.text("SELECT set_config('app.tenant_id', :t, false)"), {"t": name})
            found = connection.execute(query).all()
            connection.execute(sa.insert(Visit).values(ref=ref))
    else:
        of = "app" if WAY == "pool-check" else other(name) if forgot else name
        with pools[of].connection() as connection, connection.transaction():
            if WAY == "pool-check" and not forgot:
                connection.execute("SELECT set_config('app.tenant_id', %s, true)", (name,))
            sql = f"SELECT tenant, item FROM {'stock' if forgot and WAY == 'pool-check' else 'orders'} WHERE item <> %s LIMIT 3"
            found = connection.execute(sql, (ref,)).fetchall()
            connection.execute("INSERT INTO visits (ref) VALUES (%s)", (ref,))
    return {"rows": [{"tenant": row[0], "item": row[1]} for row in found], "ref": ref}


if __name__ == "__main__":
    serve_wsgi(app, 2 * OPTIONS.pool)
