"""A Kafka broker: librdkafka's mock cluster, which speaks the real protocol on a TCP port of its choice."""

import threading

import confluent_kafka

client = confluent_kafka.Producer({"bootstrap.servers": "127.0.0.1:1", "test.mock.num.brokers": 1})
(broker,) = client.list_topics(timeout=20).brokers.values()
print(f"PORT {broker.port}", flush=True)
threading.Event().wait()
