// A shared service on Node.js before Redis: http, and connections of ioredis that all tenants share. Modes as in
// service_redis.py. Where commands name the tenant themselves, a connection carries those of several requests at once, as
// ioredis is mostly used; with `auth` a request has one to itself.
'use strict';

const fs = require('node:fs');
const http = require('node:http');
const https = require('node:https');
const { parseArgs } = require('node:util');
const { Redis } = require('ioredis');

const text = { type: 'string' };
const { values: options } = parseArgs({
  options: { upstream: text, truth: text, tokens: text, mode: text, pool: text, comment: { type: 'boolean' } },
});
const tokens = JSON.parse(options.tokens);
const truth = fs.openSync(options.truth, 'a');
const ordinals = new Map();
const certificate = process.env.LAB_CERTIFICATE;
const tls = certificate ? { tls: { ca: fs.readFileSync(certificate) } } : {};
const clients = Array.from(
  { length: Number(options.pool) },
  () => new Redis({ host: '127.0.0.1', port: Number(options.upstream), maxRetriesPerRequest: null, ...tls }),
);
const free = [...clients];
const waiting = [];
let next = 0;

// Called right before an operation is sent.
function works(client, tenant) {
  const port = client.stream.localPort;
  const ordinal = ordinals.get(port) ?? 0;
  ordinals.set(port, ordinal + 1);
  fs.writeSync(truth, JSON.stringify({ port, ordinal, tenant, at: Date.now() / 1000 }) + '\n');
}

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
    works(client, tenant);
    return client.call(...command);
  }
  const client = await take();
  try {
    const login = client.call('AUTH', `tenant_${tenant}`, `secret-of-${tenant}`);
    if (options.mode === 'auth') await login;
    // Else both go out together; the second is answered whatever becomes of the first.
    else login.catch(() => {});
    works(client, tenant);
    return await client.call(...command);
  } finally {
    giveBack(client);
  }
}

async function answer(request) {
  const tenant = tokens[(request.headers.authorization ?? '').replace('Bearer ', '')];
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

const own = certificate ? { cert: fs.readFileSync(certificate), key: fs.readFileSync(process.env.LAB_KEY) } : {};
const server = (certificate ? https : http).createServer(own, (request, response) => {
  answer(request)
    .catch((error) => [500, { error: String(error) }])
    .then(([status, body]) => {
      const whole = JSON.stringify(body);
      response.writeHead(status, { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(whole) });
      response.end(whole);
    });
});
server.keepAliveTimeout = 300_000;
Promise.all(clients.map((client) => new Promise((resolve) => client.once('ready', resolve)))).then(() => {
  server.listen(0, '127.0.0.1', () => console.log(`PORT ${server.address().port}`));
});
