"""Celery over Redis: a producer (`send_task`, custom headers), and a worker (`--variant prefork` or `threads`; `whole` is
threads with all of its housekeeping: results, events, gossip, mingle and heartbeats)."""

import celery
import celery.signals
from queue_common import Worker, arguments, message, ready, takes_orders

OPTIONS = arguments(__doc__)
WHOLE = OPTIONS.variant == "whole"

app = celery.Celery("queue_celery", broker=f"redis://127.0.0.1:{OPTIONS.broker}/0")
app.conf.update(
    task_default_queue=OPTIONS.queue,
    task_ignore_result=not WHOLE,
    result_backend=f"redis://127.0.0.1:{OPTIONS.broker}/0" if WHOLE else None,
    result_expires=60,
    task_send_sent_event=WHOLE,
    # Acknowledged when it is done, where threads do it; before, in processes: both are in use.
    task_acks_late=OPTIONS.variant != "prefork",
    worker_prefetch_multiplier=1 if OPTIONS.prefetch == 1 else 4,
    worker_hijack_root_logger=False,
    worker_send_task_events=WHOLE,
    broker_connection_retry_on_startup=True,
)
worker = None


@celery.signals.worker_ready.connect
def told(**_):
    ready()


@app.task(name="jobs.work", bind=True)
def work(self, body):
    global worker
    # One pool per process: made after the fork.
    if worker is None:
        worker = Worker(OPTIONS)
    headers = {k: v for k, v in (self.request.headers or {}).items() if isinstance(v, str)}
    worker.work(body, headers, bool((self.request.delivery_info or {}).get("redelivered")))


def publish(kind):
    ref, headers, body = message(OPTIONS, kind)
    app.send_task("jobs.work", [body], headers=headers)
    return ref


def main():
    if OPTIONS.role == "producer":
        takes_orders(publish)
        return
    global worker
    if OPTIONS.variant != "prefork":
        worker = Worker(OPTIONS)
    # A process has a pool of its own, with one connection: it does one job at a time.
    n = OPTIONS.pool
    if OPTIONS.variant == "prefork":
        OPTIONS.pool = 1
    app.worker_main(
        ["worker", "--pool", "threads" if WHOLE else OPTIONS.variant, "-c", str(n), "-l", "WARNING"]
        + (["-n", f"{OPTIONS.queue}@%h"] if WHOLE else ["--without-gossip", "--without-mingle", "--without-heartbeat"])
    )


main()
