"""Kafka: a producer (acknowledged by the broker, headers), and a worker in a group that commits offsets as jobs are
done; variants `confluent` and `aiokafka`."""

import asyncio
import json
import sys

from queue_common import Worker, arguments, message, ready, takes_orders


def encoded(headers):
    return [(name, value.encode()) for name, value in headers.items()]


def decoded(headers):
    return {name: value.decode() for name, value in headers or []}


def confluent_producer(options):
    import confluent_kafka

    client = confluent_kafka.Producer({"bootstrap.servers": f"127.0.0.1:{options.broker}", "linger.ms": 0})

    def publish(kind):
        ref, headers, body = message(options, kind)
        client.produce(options.queue, body, headers=encoded(headers))
        client.flush(20)
        return ref

    takes_orders(publish)


def confluent_worker(options):
    import confluent_kafka

    # A consumer waits for minutes for a topic that is not there yet; asking as a producer makes it.
    maker = confluent_kafka.Producer({"bootstrap.servers": f"127.0.0.1:{options.broker}"})
    maker.list_topics(options.queue, timeout=20)
    client = confluent_kafka.Consumer(
        {
            "bootstrap.servers": f"127.0.0.1:{options.broker}",
            "group.id": options.queue,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 100,
        }
    )
    worker = Worker(options)
    assigned = []
    client.subscribe([options.queue], on_assign=lambda _, partitions: assigned.extend(partitions))
    said = False
    while True:
        got = client.poll(0.2)
        if assigned and not said:
            said = True
            ready()
        if got is None or got.error():
            continue
        worker.work(got.value(), decoded(got.headers()))
        client.commit(got, asynchronous=False)


async def aio_producer(options):
    import aiokafka

    client = aiokafka.AIOKafkaProducer(bootstrap_servers=f"127.0.0.1:{options.broker}")
    await client.start()
    loop = asyncio.get_running_loop()
    ready()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        order, refs = json.loads(line), []
        for _ in range(order["rounds"]):
            ref, headers, body = message(options, order["kind"])
            await client.send_and_wait(options.queue, body.encode(), headers=encoded(headers))
            refs.append(ref)
        print("SEEN " + json.dumps({"refs": refs}), flush=True)
    await client.stop()
    print("DONE", flush=True)


async def aio_worker(options):
    import aiokafka

    client = aiokafka.AIOKafkaConsumer(
        options.queue,
        bootstrap_servers=f"127.0.0.1:{options.broker}",
        group_id=options.queue,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        metadata_max_age_ms=500,
        fetch_max_wait_ms=100,
    )
    worker, loop = Worker(options), asyncio.get_running_loop()
    await client.start()
    while not client.assignment():
        await asyncio.sleep(0.05)
    ready()
    async for got in client:
        await loop.run_in_executor(None, worker.work, got.value, decoded(got.headers))
        await client.commit()


def main():
    options = arguments(__doc__)
    if options.variant == "aiokafka":
        asyncio.run(aio_producer(options) if options.role == "producer" else aio_worker(options))
    else:
        (confluent_producer if options.role == "producer" else confluent_worker)(options)


main()
