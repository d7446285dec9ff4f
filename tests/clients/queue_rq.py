"""RQ: a producer (`Queue.enqueue`), and a worker that does one job after the other in its own process. A job has no
headers: they are an argument of its function, in a compressed hash that the queue names by id."""

import redis
import rq
from queue_common import Worker, arguments, message, ready, takes_orders

OPTIONS = arguments(__doc__)
STORE = redis.Redis(port=OPTIONS.broker)
worker = None


def work(body, headers):
    global worker
    if worker is None:
        worker = Worker(OPTIONS)
    worker.work(body, headers)


def publish(kind):
    ref, headers, body = message(OPTIONS, kind)
    rq.Queue(OPTIONS.queue, connection=STORE).enqueue("queue_rq.work", body, headers)
    return ref


class Told(rq.SimpleWorker):
    def bootstrap(self, *args, **kwargs):
        super().bootstrap(*args, **kwargs)
        ready()


if __name__ == "__main__":
    if OPTIONS.role == "producer":
        takes_orders(publish)
    else:
        Told([OPTIONS.queue], connection=STORE).work(logging_level="WARNING")
