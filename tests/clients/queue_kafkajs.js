// kafkajs: a producer, and a worker in a group that commits offsets as jobs are done.
'use strict';

const { Kafka, logLevel } = require('kafkajs');
const { Worker, arguments_, message, takesOrders } = require('./queue_common.js');

const options = arguments_();
const kafka = new Kafka({ brokers: [`127.0.0.1:${options.broker}`], logLevel: logLevel.ERROR });

async function produce() {
  const producer = kafka.producer();
  await producer.connect();
  await takesOrders(async (kind) => {
    const { ref, headers, body } = message(options, kind);
    await producer.send({ topic: options.queue, messages: [{ value: body, headers }] });
    return ref;
  });
}

async function consume() {
  const worker = new Worker(options);
  const consumer = kafka.consumer({ groupId: options.queue, maxWaitTimeInMs: 100 });
  consumer.on(consumer.events.GROUP_JOIN, () => console.log('READY'));
  await consumer.connect();
  await consumer.subscribe({ topic: options.queue, fromBeginning: true });
  await consumer.run({
    autoCommitThreshold: 1,
    eachMessage: async ({ message: got }) => {
      const headers = Object.fromEntries(Object.entries(got.headers ?? {}).map(([k, v]) => [k, v.toString()]));
      await worker.work(got.value.toString(), headers);
    },
  });
}

(options.role === 'producer' ? produce() : consume()).catch((error) => {
  console.error(error);
  process.exit(1);
});
