"""A tenant's PostgreSQL client. Holds WORKERS connections, each with its setup done, and carries out the orders that
come on standard input, one JSON object a line: {"rounds": N, "steps": [STEP, ...]}. After each order it prints
SEEN {"statements": N, "rows": {TENANT: N}}, with the rows by the tenant they belong to; READY before the first order,
DONE after the last.

A step is one statement, sent by itself:
  SQL                    by the simple protocol
  SQL ?VALUE ?VALUE      by the extended protocol, with parameters (%s in the SQL)
  fails: STEP            the server must refuse it
  batch: STEP ;; STEP    in one pipeline, before one Sync
  pause: MILLISECONDS    send nothing for so long
With --lazy no connection is held: every round makes one, runs the setup, the steps, and closes it."""

import argparse
import collections
import contextlib
import json
import random
import sys
import threading
import time
import traceback

import psycopg
from psycopg.rows import tuple_row


class Worker(threading.Thread):
    def __init__(self, options, seed):
        super().__init__(daemon=True)
        self.options = options
        self.random = random.Random(seed)
        self.connection = None if options.lazy else self.connect()
        self.order = None
        self.wake, self.rested = threading.Event(), threading.Event()
        self.failure = None
        self.statements = 0
        self.rows = collections.Counter()

    def connect(self):
        connection = psycopg.connect(self.options.dsn, autocommit=True, connect_timeout=20, row_factory=tuple_row)
        # Named statements only on request: poolers of before 1.21 cannot carry them.
        connection.prepare_threshold = 0 if self.options.prepared else None
        for step in self.options.setup:
            self.execute(connection, step, prepare=False)
        return connection

    def execute(self, connection, step, prepare=None):
        sql, *values = (part.strip() for part in step.split("?"))
        cursor = connection.execute(sql, values or None, prepare=prepare)
        return cursor

    def count(self, cursor):
        self.statements += 1
        if cursor.description and "tenant" in (column.name for column in cursor.description):
            at = [column.name for column in cursor.description].index("tenant")
            self.rows.update(row[at] for row in cursor.fetchall())

    def step(self, connection, step):
        if step.startswith("pause:"):
            time.sleep(float(step.removeprefix("pause:")) / 1000)
        elif step.startswith("fails:"):
            try:
                self.execute(connection, step.removeprefix("fails:").strip())
            except psycopg.Error:
                self.statements += 1
                return
            raise AssertionError(f"the server should have refused this: {step}")
        elif step.startswith("batch:"):
            with connection.pipeline():
                cursors = [self.execute(connection, part.strip()) for part in step.removeprefix("batch:").split(";;")]
            for cursor in cursors:
                self.count(cursor)
        else:
            cursor = self.execute(connection, step)
            while True:
                self.count(cursor)
                if not cursor.nextset():
                    break

    def run_order(self):
        for number in range(self.order["rounds"]):
            with contextlib.ExitStack() as stack:
                connection = self.connection
                if connection is None:
                    connection = stack.enter_context(contextlib.closing(self.connect()))
                for step in self.order["steps"]:
                    self.step(connection, step)
            # Threads of one program would else run in step with each other.
            if self.options.workers > 1:
                time.sleep(self.random.random() * self.options.pause / 1000)

    def run(self):
        while True:
            self.wake.wait()
            self.wake.clear()
            try:
                self.run_order()
            except BaseException:
                self.failure = traceback.format_exc()
            self.rested.set()


def carry_out(workers, order):
    for worker in workers:
        worker.order = order
        worker.wake.set()
    for worker in workers:
        worker.rested.wait()
        worker.rested.clear()
    for worker in workers:
        if worker.failure:
            raise SystemExit(worker.failure)
    rows = collections.Counter()
    for worker in workers:
        rows.update(worker.rows)
        worker.rows.clear()
    statements = sum(worker.statements for worker in workers)
    for worker in workers:
        worker.statements = 0
    print("SEEN " + json.dumps({"statements": statements, "rows": rows}), flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("dsn")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--setup", action="append", default=[])
    parser.add_argument("--prepared", action="store_true", help="named protocol-level statements")
    parser.add_argument("--lazy", action="store_true", help="a connection per round")
    parser.add_argument("--pause", type=float, default=4, help="longest rest between rounds, in milliseconds")
    options = parser.parse_args()
    # One after another: the order in which connections are made is the same in every run.
    workers = [Worker(options, seed) for seed in range(options.workers)]
    for worker in workers:
        worker.start()
    print("READY", flush=True)
    for line in sys.stdin:
        carry_out(workers, json.loads(line))
    for worker in workers:
        if worker.connection is not None:
            worker.connection.close()
    print("DONE", flush=True)


main()
