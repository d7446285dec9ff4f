// BullMQ: a producer (`Queue.add`), and a worker. A job has no headers: they are fields of its data.
'use strict';

const bullmq = require('bullmq');
const { Worker, arguments_, message, takesOrders } = require('./queue_common.js');

const options = arguments_();
const connection = { host: '127.0.0.1', port: Number(options.broker), maxRetriesPerRequest: null };

if (options.role === 'producer') {
  const queue = new bullmq.Queue(options.queue, { connection });
  takesOrders(async (kind) => {
    const { ref, headers, body } = message(options, kind);
    await queue.add('work', { ...headers, body }, { removeOnComplete: true });
    return ref;
  });
} else {
  const worker = new Worker(options);
  const own = new bullmq.Worker(options.queue, (job) => worker.work(job.data.body, job.data), {
    connection, concurrency: Number(options.prefetch),
  });
  own.on('error', (error) => console.error(error));
  own.waitUntilReady().then(() => console.log('READY'));
}
