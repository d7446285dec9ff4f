"""RabbitMQ: a producer (pika, publisher confirms), and a worker on pika (variant `pika`: a thread for the connection,
others for the jobs when there is a prefetch) or aio-pika (variant `aio`). Jobs are acknowledged as they are done: with
a prefetch, not in the order in which they came."""

import asyncio
import concurrent.futures
import functools

from queue_common import Storm, Worker, arguments, message, ready, takes_orders
from service_common import client_tls

TLS = client_tls()


def connection(options):
    import pika

    tls = TLS and pika.SSLOptions(TLS, "127.0.0.1")
    connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", options.broker, ssl_options=tls))
    channel = connection.channel()
    channel.queue_declare(options.queue, durable=True)
    return connection, channel


def producer(options):
    import pika

    _, channel = connection(options)
    channel.confirm_delivery()

    def publish(kind):
        ref, headers, body = message(options, kind)
        properties = pika.BasicProperties(
            headers=headers, content_type="application/json", delivery_mode=1, message_id=ref if options.key else None
        )
        channel.basic_publish("", options.queue, body, properties)
        return ref

    takes_orders(publish)


def pika_worker(options):
    worker = Worker(options)
    own, channel = connection(options)
    channel.basic_qos(prefetch_count=options.prefetch)
    threads = concurrent.futures.ThreadPoolExecutor(options.pool)

    def work(deliver, properties, body):
        try:
            worker.work(body, properties.headers or {}, deliver.redelivered)
            settle = functools.partial(channel.basic_ack, deliver.delivery_tag)
        except Storm:
            settle = functools.partial(channel.basic_nack, deliver.delivery_tag, requeue=True)
        own.add_callback_threadsafe(settle)

    def on_message(_, deliver, properties, body):
        threads.submit(work, deliver, properties, body).add_done_callback(lambda f: f.result())

    channel.basic_consume(options.queue, on_message)
    ready()
    channel.start_consuming()


async def aio_worker(options):
    import aio_pika

    worker = Worker(options)
    loop = asyncio.get_running_loop()
    threads = concurrent.futures.ThreadPoolExecutor(options.pool)
    own = await aio_pika.connect(
        f"amqp{'s' if TLS else ''}://guest:guest@127.0.0.1:{options.broker}/", ssl_context=TLS
    )
    channel = await own.channel()
    await channel.set_qos(prefetch_count=options.prefetch)
    queue = await channel.declare_queue(options.queue, durable=True)

    async def on_message(delivery):
        await loop.run_in_executor(threads, worker.work, delivery.body, dict(delivery.headers), delivery.redelivered)
        await delivery.ack()

    await queue.consume(on_message)
    ready()
    await asyncio.Event().wait()


def main():
    options = arguments(__doc__)
    if options.role == "producer":
        producer(options)
    elif options.variant == "aio":
        asyncio.run(aio_worker(options))
    else:
        pika_worker(options)


main()
