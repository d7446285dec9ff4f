// ioredis on one connection or a few: redlock, a rate limiter, a database per tenant, a chat history.
'use strict';

const Redis = require('ioredis');
const { options, numbers, serve } = require('./recipe.js');

const clients = Array.from({ length: options.pool }, () => new Redis(options.upstream, '127.0.0.1'));
const free = [...clients];
const waiting = [];

// A client at a time for each request, as a pool would do it.
async function borrow(work) {
  const client = free.pop() ?? (await new Promise((resolve) => waiting.push(resolve)));
  try {
    return await work(client);
  } finally {
    const next = waiting.shift();
    if (next) next(client);
    else free.push(client);
  }
}

const ways = {
  redlock: () => {
    const Redlock = require('redlock');
    const locks = new Redlock([clients[0]], { retryCount: 50, retryDelay: 10, retryJitter: 5 });
    return async (tenant, ref) => {
      // One lock for all tenants: the job that must not run twice.
      const lock = await locks.lock('locks:reindex', 2000);
      await borrow((client) => client.set(`${tenant}:job:${ref}`, 'done', 'EX', 60));
      await lock.unlock();
      return [];
    };
  },
  limiter: () => {
    const { RateLimiterRedis } = require('rate-limiter-flexible');
    const all = new RateLimiterRedis({ storeClient: clients[0], points: 10000, duration: 5, keyPrefix: 'rl:all' });
    const each = new RateLimiterRedis({ storeClient: clients[0], points: 10000, duration: 5, keyPrefix: 'rl:each' });
    return async (tenant, ref) => {
      await all.consume('api');
      await each.consume(tenant);
      await borrow((client) => client.set(`${tenant}:order:${ref}`, ref, 'EX', 60));
      return [{ tenant: (await borrow((client) => client.get(`${tenant}:order:${ref}`))) === ref ? tenant : '?', item: ref }];
    };
  },
  // SELECT before each use; the forgotten path takes what is selected.
  databases: () => async (tenant, ref, kind) =>
    borrow(async (client) => {
      if (kind !== 'peek') await client.select(tenant === 'acme' ? 3 : 7);
      if (kind !== 'peek') await client.hset('orders', ref, tenant, 'latest', tenant);
      const found = kind === 'peek' ? await client.hget('orders', 'latest') : await client.hget('orders', ref);
      return found ? [{ tenant: found, item: ref }] : [];
    }),
  // What was said before is read with each message; the forgotten path keeps it under the default key.
  chat: () => async (tenant, ref, kind) =>
    borrow(async (client) => {
      const key = kind === 'default' ? 'message_store:default' : `message_store:${tenant}`;
      const before = await client.lrange(key, -3, -1);
      await client.rpush(key, JSON.stringify({ tenant, item: ref }));
      return before.map((line) => JSON.parse(line));
    }),
};

serve(ways[options.mode]());
