"""Redis streams: a producer (XADD), and a worker in a consumer group (XREADGROUP, XACK as the jobs are done). The
header fields are fields of the entry."""

import concurrent.futures
import os

import redis
from queue_common import Worker, arguments, message, ready, takes_orders

GROUP = "workers"


def worker(options, client):
    try:
        client.xgroup_create(options.queue, GROUP, id="0", mkstream=True)
    except redis.ResponseError:
        # Somebody was quicker.
        pass
    worker = Worker(options)
    threads = concurrent.futures.ThreadPoolExecutor(options.pool)

    def work(entry, fields, again):
        fields = {k.decode(): v.decode() for k, v in fields.items()}
        worker.work(fields.pop("body"), fields, again)
        client.xack(options.queue, GROUP, entry)

    ready()
    while True:
        # What a consumer that is gone had, comes first.
        if options.crash and os.path.exists(options.crash):
            _, entries, _ = client.xautoclaim(options.queue, GROUP, "w", min_idle_time=0, count=options.prefetch)
            for entry, fields in entries:
                work(entry, fields, True)
        for _, entries in client.xreadgroup(GROUP, "w", {options.queue: ">"}, options.prefetch, block=1000) or []:
            for done in [threads.submit(work, entry, fields, False) for entry, fields in entries]:
                done.result()


def main():
    options = arguments(__doc__)
    client = redis.Redis("127.0.0.1", options.broker)
    if options.role == "worker":
        worker(options, client)

    def publish(kind):
        ref, headers, body = message(options, kind)
        client.xadd(options.queue, {"body": body, **headers})
        return ref

    takes_orders(publish)


main()
