"""Load for `cargo xtask bench`: passes so many small messages through RabbitMQ (`--variant amqp`) or a Redis stream
(`--variant streams`), with a tenant's header on each. A producer publishes as fast as it can; a consumer confirms every
message. Both take orders: {"messages": N}, and answer when that many are through."""

import argparse
import json
import sys
import uuid

QUEUE, GROUP = "load", "workers"
BATCH = 50


def amqp(options):
    import pika

    own = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", options.broker))
    channel = own.channel()
    channel.queue_declare(QUEUE, durable=False)

    def publish(n):
        for _ in range(n):
            ref = str(uuid.uuid4())
            properties = pika.BasicProperties(headers={"x-tenant-id": options.tenant}, message_id=ref)
            channel.basic_publish("", QUEUE, json.dumps({"kind": "load", "ref": ref, "text": "x" * 160}), properties)
        own.process_data_events()

    def consume(n):
        for deliver, _, _ in channel.consume(QUEUE):
            channel.basic_ack(deliver.delivery_tag)
            n -= 1
            if n == 0:
                break
        # What came beyond goes back to the queue.
        channel.cancel()

    channel.basic_qos(prefetch_count=BATCH)
    return publish, consume


def streams(options):
    import redis

    client = redis.Redis("127.0.0.1", options.broker)
    try:
        client.xgroup_create(QUEUE, GROUP, id="0", mkstream=True)
    except redis.ResponseError:
        # Somebody was quicker.
        pass

    def publish(n):
        while n > 0:
            pipe = client.pipeline(transaction=False)
            for _ in range(min(n, BATCH)):
                ref = str(uuid.uuid4())
                body = json.dumps({"kind": "load", "ref": ref, "text": "x" * 160})
                pipe.xadd(QUEUE, {"body": body, "x-tenant-id": options.tenant}, maxlen=200_000, approximate=True)
            pipe.execute()
            n -= BATCH

    def consume(n):
        while n > 0:
            for _, entries in client.xreadgroup(GROUP, "w", {QUEUE: ">"}, min(n, BATCH), block=1000) or []:
                pipe = client.pipeline(transaction=False)
                for entry, _ in entries:
                    pipe.xack(QUEUE, GROUP, entry)
                pipe.execute()
                n -= len(entries)

    return publish, consume


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--role", choices=["producer", "consumer"], required=True)
    parser.add_argument("--variant", choices=["amqp", "streams"], required=True)
    parser.add_argument("--broker", type=int, required=True, help="port of the broker")
    parser.add_argument("--tenant", help="the producer's")
    options = parser.parse_args()
    publish, consume = amqp(options) if options.variant == "amqp" else streams(options)
    work = publish if options.role == "producer" else consume
    print("READY", flush=True)
    for line in sys.stdin:
        work(json.loads(line)["messages"])
        print("SEEN {}", flush=True)
    print("DONE", flush=True)


main()
