"""arq: a producer (`enqueue_job`), and a worker on asyncio. A job has no headers: they are an argument."""

import asyncio

import arq
import arq.connections
import arq.worker
from queue_common import Worker, arguments, message, ready, takes_orders

OPTIONS = arguments(__doc__)
SETTINGS = arq.connections.RedisSettings(port=OPTIONS.broker)
worker = None


async def work(_, body, headers):
    await asyncio.to_thread(worker.work, body, headers)


async def started(_):
    ready()


def main():
    global worker
    if OPTIONS.role == "producer":
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        pool = loop.run_until_complete(arq.create_pool(SETTINGS, default_queue_name=OPTIONS.queue))

        def publish(kind):
            ref, headers, body = message(OPTIONS, kind)
            loop.run_until_complete(pool.enqueue_job("work", body, headers))
            return ref

        takes_orders(publish)
        return
    worker = Worker(OPTIONS)
    asyncio.set_event_loop(asyncio.new_event_loop())
    arq.worker.Worker(
        [work], queue_name=OPTIONS.queue, redis_settings=SETTINGS, on_startup=started, max_jobs=OPTIONS.prefetch,
        poll_delay=0.05, handle_signals=False, max_tries=1,
    ).run()


main()
