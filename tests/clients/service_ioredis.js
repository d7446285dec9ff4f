// A shared service on Node.js before Redis: http, and connections of ioredis that all tenants share. Modes as in
// service_redis.py. Where commands name the tenant themselves, a connection carries those of several requests at once, as
// ioredis is mostly used; with `auth` a request has one to itself.
'use strict';

const fs = require('node:fs');
const { Redis } = require('ioredis');
const { certificate, options, serve, whose, works } = require('./service_common.js');

const tls = certificate ? { tls: { ca: fs.readFileSync(certificate) } } : {};
const clients = Array.from(
  { length: Number(options.pool) },
  () => new Redis({ host: '127.0.0.1', port: Number(options.upstream), maxRetriesPerRequest: null, ...tls }),
);
const free = [...clients];
const waiting = [];
let next = 0;

function take() {
  const client = free.shift();
  return client ? Promise.resolve(client) : new Promise((resolve) => waiting.push(resolve));
}

function giveBack(client) {
  const resolve = waiting.shift();
  if (resolve) resolve(client);
  else free.push(client);
}

function key(kind, tenant, ref) {
  if (options.mode !== 'prefix' && options.mode !== 'crossed') return `orders:${ref}`;
  return `${kind === 'crossed' ? 'acme' : tenant}:orders:${ref}`;
}

async function run(tenant, ...command) {
  if (!options.mode.startsWith('auth')) {
    const client = clients[next];
    next = (next + 1) % clients.length;
    works(client.stream.localPort, tenant);
    return client.call(...command);
  }
  const client = await take();
  try {
    const login = client.call('AUTH', `tenant_${tenant}`, `secret-of-${tenant}`);
    if (options.mode === 'auth') await login;
    // Else both go out together; the second is answered whatever becomes of the first.
    else login.catch(() => {});
    works(client.stream.localPort, tenant);
    return await client.call(...command);
  } finally {
    giveBack(client);
  }
}

async function answer(request) {
  const tenant = whose(request);
  if (tenant === undefined) return [401, { error: 'no such token' }];
  const [, kind, ref] = request.url.split('/');
  if (request.method === 'PUT') {
    let body = '';
    for await (const piece of request) body += piece;
    await run(tenant, 'SET', key(kind, tenant, ref), JSON.stringify({ tenant, item: JSON.parse(body).item }));
    return [200, { rows: [], ref }];
  }
  const value = await run(tenant, 'GET', key(kind, tenant, ref));
  return [200, { rows: value ? [JSON.parse(value)] : [], ref }];
}

Promise.all(clients.map((client) => new Promise((resolve) => client.once('ready', resolve)))).then(() => serve(answer));
