"""NATS JetStream: a producer (acknowledged publish, headers), and a worker with a durable pull consumer."""

import asyncio
import concurrent.futures
import json
import sys

import nats
import nats.errors
from queue_common import Worker, arguments, message, ready
from service_common import client_tls

STREAM = "JOBS"


async def stream(options):
    client = await nats.connect(f"nats://127.0.0.1:{options.broker}", tls=client_tls())
    js = client.jetstream()
    await js.add_stream(name=STREAM, subjects=["jobs.>"])
    return client, js


async def producer(options):
    _, js = await stream(options)
    loop = asyncio.get_running_loop()
    ready()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        order, refs = json.loads(line), []
        for _ in range(order["rounds"]):
            ref, headers, body = message(options, order["kind"])
            await js.publish(options.queue, body.encode(), headers=headers or None)
            refs.append(ref)
        print("SEEN " + json.dumps({"refs": refs}), flush=True)
    print("DONE", flush=True)


async def worker(options):
    _, js = await stream(options)
    subscription = await js.pull_subscribe(options.queue, durable=options.queue.replace(".", "-"), stream=STREAM)
    worker, loop = Worker(options), asyncio.get_running_loop()
    threads = concurrent.futures.ThreadPoolExecutor(options.pool)

    async def work(delivery):
        again = delivery.metadata.num_delivered > 1
        await loop.run_in_executor(threads, worker.work, delivery.data, delivery.headers or {}, again)
        await delivery.ack()

    ready()
    while True:
        try:
            fetched = await subscription.fetch(options.prefetch, timeout=0.5)
        except (nats.errors.TimeoutError, asyncio.TimeoutError):
            continue
        await asyncio.gather(*map(work, fetched))


def main():
    options = arguments(__doc__)
    asyncio.run(producer(options) if options.role == "producer" else worker(options))


main()
