//! The decoders whose recordings several tests read.

use monitor_core::decode::{amqp, kafka, mqtt, nats, postgres, redis};

use super::{SALT, Suite};

pub const AMQP: Suite = Suite {
    name: "amqp",
    make: |mid_stream| amqp::decoder(SALT, mid_stream),
    values: true,
    at_least: 8,
    memory: 1 << 20,
};

pub const KAFKA: Suite = Suite {
    name: "kafka",
    make: |mid_stream| kafka::decoder(SALT, mid_stream, &kafka::Shared::default()),
    values: true,
    at_least: 20,
    // Messages of a batch are held until the broker answers, 8192 at most.
    memory: 2 << 20,
};

pub const MQTT: Suite = Suite {
    name: "mqtt",
    make: |mid_stream| mqtt::decoder(SALT, mid_stream),
    values: true,
    at_least: 7,
    memory: 1 << 20,
};

pub const NATS: Suite = Suite {
    name: "nats",
    make: |mid_stream| nats::decoder(SALT, mid_stream),
    values: true,
    at_least: 11,
    memory: 1 << 20,
};

pub const POSTGRES: Suite = Suite {
    name: "postgres",
    make: |mid_stream| postgres::decoder(SALT, mid_stream, &postgres::Shared::new(SALT)),
    values: true,
    at_least: 21,
    memory: 1 << 20,
};

pub const REDIS: Suite = Suite {
    name: "redis",
    make: |mid_stream| redis::decoder(SALT, mid_stream, &redis::Shared::default()),
    values: false,
    at_least: 23,
    memory: 1 << 20,
};
