"""What the lab's queue programs in Python have in common: their arguments, a producer that takes orders, and a worker
that does a job's side effects on PostgreSQL and writes down the truth: one JSON line per job, with whose rows it got.
The truth goes to a file, where nobody who watches the traffic can see it.

A message is {"kind": KIND, "ref": UUID}; `orders` and `peek` are what they are in sql_work.py. Whose it is stands in a
header `x-tenant-id` (--tag header), in a signed token in the header `authorization` (--tag token), or nowhere
(--tag none).

Modes of the worker, beside those of sql_work.py:
  policy   unbound, but a policy server is asked before
  records  nothing on PostgreSQL: sends the job's own token to an HTTP service
  service  nothing on PostgreSQL: sends a token of the worker's own to an HTTP service
  keyed    like per-transaction, and what it writes is written once per job"""

import argparse
import http.client
import json
import os
import signal
import socket
import sys
import threading
import time
import uuid

import psycopg_pool
from sql_work import percent, statements

MODES = ["unbound", "session-set", "per-transaction", "policy", "records", "service", "keyed"]
SERVICE_TOKEN = "5d0f63d1e1b14a0b9c1c"


def arguments(doc, argv=None):
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--role", choices=["producer", "worker"], required=True)
    parser.add_argument("--variant", default="", help="which library, where there are several")
    parser.add_argument("--broker", type=int, required=True, help="port of the broker")
    parser.add_argument("--queue", required=True)
    parser.add_argument("--tenant", help="the producer's")
    parser.add_argument("--tag", choices=["none", "header", "token"], default="none")
    parser.add_argument("--secret", help="what the producer signs its claim with")
    parser.add_argument("--key", action="store_true", help="messages carry an idempotency key")
    parser.add_argument("--database", type=int, help="port of PostgreSQL")
    parser.add_argument("--policy", type=int, help="port of the policy server or HTTP service")
    parser.add_argument("--truth", help="file for the worker's truth")
    parser.add_argument("--mode", choices=MODES, default="unbound")
    parser.add_argument("--prefetch", type=int, default=1)
    parser.add_argument("--pool", type=int, default=1, help="connections to the database")
    parser.add_argument("--crash", help="die after a side effect if this file is not there, and make it")
    parser.add_argument("--crash-after", type=int, default=0, help="jobs before that one")
    parser.add_argument("--storm", help="TENANT:N, whose job fails so many times")
    return parser.parse_args(argv)


def message(options, kind):
    """Ref, headers and body of a new message."""
    ref = str(uuid.uuid4())
    headers = {}
    if options.tag == "header":
        headers["x-tenant-id"] = options.tenant
    elif options.tag == "token":
        import jwt

        now = int(time.time())
        claims = {"tenant_id": options.tenant, "aud": "records", "iat": now, "exp": now + 300, "jti": ref}
        headers["authorization"] = "Bearer " + jwt.encode(claims, options.secret, algorithm="HS256")
    if options.key:
        headers["idempotency-key"] = ref
    return ref, headers, json.dumps({"kind": kind, "ref": ref})


def produce(publish, order):
    """Carries out one order with `publish(kind)`, which gives the ref."""
    refs = []
    for _ in range(order["rounds"]):
        refs.append(publish(order["kind"]))
    return refs


def takes_orders(publish):
    print("READY", flush=True)
    for line in sys.stdin:
        print("SEEN " + json.dumps({"refs": produce(publish, json.loads(line))}), flush=True)
    print("DONE", flush=True)


class Storm(Exception):
    """The job failed and shall be delivered again."""


class Worker:
    """Does jobs. Safe to be used by several threads; made after a fork."""

    def __init__(self, options):
        self.options = options
        self.lock = threading.Lock()
        self.http = threading.local()
        tenant, _, n = (options.storm or "").partition(":")
        self.storm, self.n_storm = tenant, int(n or 0)
        self.n_done = 0
        self.file = os.open(options.truth, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self.pool = psycopg_pool.ConnectionPool(
            f"host=127.0.0.1 port={options.database} dbname=shop user=app",
            min_size=options.pool,
            max_size=options.pool,
            timeout=60,
            # A session setting outlives its statement only outside of a transaction that ends with the job.
            kwargs={"autocommit": options.mode in ("session-set", "unbound", "policy")},
        )
        self.pool.wait()

    def tenant_of(self, headers):
        headers = {k.lower(): v for k, v in headers.items()}
        if "x-tenant-id" in headers:
            return headers["x-tenant-id"]
        if "authorization" in headers:
            import jwt

            token = headers["authorization"].removeprefix("Bearer ")
            # Whoever checks it is the HTTP service; here it is only read.
            return jwt.decode(token, options={"verify_signature": False})["tenant_id"]
        return None

    def ask(self, path, headers, body):
        # Kept open: whoever's job comes next has the connection next.
        if not hasattr(self.http, "connection"):
            self.http.connection = http.client.HTTPConnection("127.0.0.1", self.options.policy, timeout=30)
        headers = {"Content-Type": "application/json", **headers}
        self.http.connection.request("POST", path, json.dumps(body), headers)
        answer = self.http.connection.getresponse()
        said = json.loads(answer.read())
        if answer.status != 200:
            raise SystemExit(f"{path} was answered {answer.status}: {said}")
        return said

    def work(self, body, headers, again=False):
        """Does one job; what it has done is written down."""
        job = json.loads(body)
        tenant, mode = self.tenant_of(headers), self.options.mode
        if tenant == self.storm and self.n_storm > 0:
            self.n_storm -= 1
            time.sleep(0.02)
            raise Storm(job["ref"])
        if mode == "policy":
            answer = self.ask("/v1/data/jobs/allow", {}, {"input": {"tenant": tenant, "job": job["ref"]}})
            if not answer["result"]:
                raise SystemExit(f"the policy refused {tenant}")
        if mode in ("records", "service"):
            own = next((v for k, v in headers.items() if k.lower() == "authorization"), None)
            token = own if mode == "records" else f"Bearer {SERVICE_TOKEN}"
            kept = self.ask("/records", {"Authorization": token}, {"ref": job["ref"]})["kept_for"]
            self.tell({"ref": job["ref"], "tenant": tenant, "rows": {kept: 1} if kept else {}, "again": bool(again)})
            return
        style = {"policy": "unbound", "keyed": "per-transaction"}.get(mode, mode)
        rows, port = {}, None
        with self.pool.connection() as connection:
            port = local_port(connection)
            for sql, parameters, is_data in statements(style, job["kind"], job["ref"], tenant):
                if mode == "keyed" and sql.startswith("INSERT INTO visits"):
                    sql = "INSERT INTO done (key, ref) VALUES (%s, %s) ON CONFLICT DO NOTHING"
                    parameters = parameters * 2
                cursor = connection.execute(percent(sql), parameters)
                if is_data and cursor.description:
                    for row in cursor.fetchall():
                        rows[row[0]] = rows.get(row[0], 0) + 1
        self.tell({"ref": job["ref"], "tenant": tenant, "rows": rows, "port": port, "again": bool(again)})
        self.crash()

    def tell(self, line):
        with self.lock:
            os.write(self.file, (json.dumps({**line, "at": time.time()}) + "\n").encode())

    def crash(self):
        path = self.options.crash
        self.n_done += 1
        if path and self.n_done > self.options.crash_after and not os.path.exists(path):
            with open(path, "w"):
                pass
            os.kill(os.getpid(), signal.SIGKILL)


def local_port(connection):
    with socket.socket(fileno=connection.pgconn.socket) as borrowed:
        port = borrowed.getsockname()[1]
        borrowed.detach()
    return port


def ready():
    print("READY", flush=True)
