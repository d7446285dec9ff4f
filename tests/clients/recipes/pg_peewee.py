"""peewee and psycopg's own pool: a search path for each request, a reset when a connection comes back."""

import json

from recipe import bearer, dsn, options, serve_wsgi

OPTIONS = options(__doc__, ["peewee", "psycopg-reset", "psycopg-discard"])
WAY = OPTIONS.mode

if WAY == "peewee":
    from playhouse.pool import PooledPostgresqlDatabase

    database = PooledPostgresqlDatabase(
        "shop", user="app", host="127.0.0.1", port=OPTIONS.upstream, max_connections=OPTIONS.pool, timeout=60
    )
else:
    import psycopg_pool

    def reset(connection):
        connection.execute("DISCARD ALL" if WAY == "psycopg-discard" else "RESET app.tenant_id")

    pool = psycopg_pool.ConnectionPool(
        dsn(OPTIONS), min_size=OPTIONS.pool, max_size=OPTIONS.pool, timeout=60, reset=reset,
        kwargs={"autocommit": True, "prepare_threshold": None},
    )
    pool.wait()


def work(name, ref, forgot):
    if WAY == "peewee":
        with database.connection_context():
            if not forgot:
                database.execute_sql(f"SET search_path TO {name}, public")
            cursor = database.execute_sql("SELECT tenant, item FROM shop_order WHERE item <> %s LIMIT 3", (ref,))
            rows = cursor.fetchall()
            database.execute_sql("INSERT INTO visits (ref) VALUES (%s)", (ref,))
            return rows
    with pool.connection() as connection:
        if not forgot:
            connection.execute("SELECT set_config('app.tenant_id', %s, false)", (name,))
        # Row security shows nothing to the unbound: the forgotten path reads a table without it.
        table = "stock" if forgot else "orders"
        rows = connection.execute(f"SELECT tenant, item FROM {table} WHERE item <> %s LIMIT 3", (ref,)).fetchall()
        connection.execute("INSERT INTO visits (ref) VALUES (%s)", (ref,))
        return rows


def application(environ, start_response):
    name = OPTIONS.tokens[bearer({"Authorization": environ["HTTP_AUTHORIZATION"]})]
    _, kind, ref = environ["PATH_INFO"].split("/")
    rows = [{"tenant": row[0], "item": row[1]} for row in work(name, ref, kind == "peek")]
    body = json.dumps({"rows": rows, "ref": ref}).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


if __name__ == "__main__":
    serve_wsgi(application, OPTIONS.pool if WAY == "peewee" else 2 * OPTIONS.pool)
