"""Dramatiq over Redis: a producer (`send`), and a worker with threads. A message has no headers: they are an argument."""

import time

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from queue_common import Worker, arguments, message, ready, takes_orders

OPTIONS = arguments(__doc__)
BROKER = RedisBroker(url=f"redis://127.0.0.1:{OPTIONS.broker}/0")
dramatiq.set_broker(BROKER)
worker = None


@dramatiq.actor(queue_name=OPTIONS.queue, max_retries=0)
def work(body, headers):
    worker.work(body, headers)


def publish(kind):
    ref, headers, body = message(OPTIONS, kind)
    work.send(body, headers)
    return ref


def main():
    global worker
    if OPTIONS.role == "producer":
        takes_orders(publish)
        return
    worker = Worker(OPTIONS)
    dramatiq.Worker(BROKER, queues={OPTIONS.queue}, worker_threads=OPTIONS.pool).start()
    ready()
    while True:
        time.sleep(1)


main()
