"""A shared service with one thread per connection (variant `stdlib`, http.server) or with an I/O thread that hands
requests over to workers (variant `waitress`), on a psycopg_pool that all tenants share."""

import json

import psycopg_pool
from service_common import Truth, arguments, listening, serve_threads, trace_comment, whose
from sql_work import MODES, percent, route, statements


class Service:
    def __init__(self, options):
        self.options = options
        self.truth = Truth(options.truth)
        self.pool = psycopg_pool.ConnectionPool(
            f"host=127.0.0.1 port={options.upstream} dbname=shop user=app",
            min_size=options.pool,
            max_size=options.pool,
            timeout=60,
            # A session setting outlives its statement only outside of a transaction that ends with the request.
            kwargs={"autocommit": options.mode == "session-set"},
        )
        self.pool.wait()

    def answer(self, path, headers):
        """Status and body."""
        tenant, what = whose(self.options.tokens, headers), route(path)
        if tenant is None:
            return 401, {"error": "no such token"}
        if what is None:
            return 404, {"error": "no such path"}
        comment = trace_comment(headers) if self.options.comment else ""
        rows = []
        # The pool ends the transaction that the first statement has begun, where there is one.
        with self.pool.connection() as connection:
            for sql, parameters, is_data in statements(self.options.mode, *what, tenant, comment):
                if is_data:
                    self.truth.works(local_port(connection), tenant)
                cursor = connection.execute(percent(sql), parameters)
                if is_data and cursor.description:
                    rows += [{"tenant": row[0], "item": row[1]} for row in cursor.fetchall()]
        return 200, {"rows": rows, "ref": what[1]}


def local_port(connection):
    import socket

    with socket.socket(fileno=connection.pgconn.socket) as borrowed:
        port = borrowed.getsockname()[1]
        borrowed.detach()
    return port


def serve_stdlib(service):
    serve_threads(lambda _method, path, headers, _body: service.answer(path, headers))


def serve_waitress(service):
    import waitress.server

    def application(environ, start_response):
        headers = {"Authorization": environ.get("HTTP_AUTHORIZATION", "")}
        if "HTTP_TRACEPARENT" in environ:
            headers["traceparent"] = environ["HTTP_TRACEPARENT"]
        status, body = service.answer(environ["PATH_INFO"], headers)
        body = json.dumps(body).encode()
        start_response(f"{status} .", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body]

    server = waitress.server.create_server(application, host="127.0.0.1", port=0, threads=8)
    listening(server.effective_port)
    server.run()


def main():
    options = arguments(__doc__, MODES)
    {"stdlib": serve_stdlib, "waitress": serve_waitress}[options.variant or "stdlib"](Service(options))


main()
