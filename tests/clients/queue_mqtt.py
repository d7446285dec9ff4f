"""MQTT 5 at QoS 1 (paho): a producer, which waits for each PUBACK, and a worker in a shared subscription, which
acknowledges by hand. The header fields are user properties."""

import concurrent.futures
import threading

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from queue_common import Worker, arguments, message, ready, takes_orders


def client(options, name):
    # Ids of its own for each: two with one id would throw each other out.
    made = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=name, protocol=mqtt.MQTTv5, manual_ack=True)
    connected = threading.Event()
    made.on_connect = lambda *_: connected.set()
    return made, connected


def start(made, connected, options):
    made.connect("127.0.0.1", options.broker)
    made.loop_start()
    if not connected.wait(20):
        raise SystemExit("the broker did not answer")


def producer(options):
    own, connected = client(options, f"producer-{options.tenant}")
    start(own, connected, options)

    def publish(kind):
        ref, headers, body = message(options, kind)
        properties = Properties(PacketTypes.PUBLISH)
        if headers:
            properties.UserProperty = list(headers.items())
        own.publish(options.queue, body, qos=1, properties=properties).wait_for_publish(20)
        return ref

    takes_orders(publish)


def worker(options):
    own, connected = client(options, f"worker-{options.tenant or 'shared'}")
    worker = Worker(options)
    threads = concurrent.futures.ThreadPoolExecutor(options.pool)
    subscribed = threading.Event()

    def work(delivery):
        headers = dict(getattr(delivery.properties, "UserProperty", []))
        worker.work(delivery.payload, headers, delivery.dup)
        own.ack(delivery.mid, delivery.qos)

    own.on_message = lambda _, __, delivery: threads.submit(work, delivery).add_done_callback(lambda f: f.result())
    own.on_subscribe = lambda *_: subscribed.set()
    start(own, connected, options)
    own.subscribe(f"$share/workers/{options.queue}", qos=1)
    if not subscribed.wait(20):
        raise SystemExit("the broker did not take the subscription")
    ready()
    threading.Event().wait()


def main():
    options = arguments(__doc__)
    (producer if options.role == "producer" else worker)(options)


main()
