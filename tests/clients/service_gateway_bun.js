// A gateway on Bun: Bun.serve in front, fetch's own pool of connections to one upstream service behind. Arguments and
// modes as in service_gateway.py; of its sockets Bun tells nothing, so that the truth names none.
'use strict';

const fs = require('node:fs');
const { parseArgs } = require('node:util');

const text = { type: 'string' };
const { values: options } = parseArgs({
  options: { upstream: text, truth: text, tokens: text, mode: text, pool: text, comment: { type: 'boolean' } },
});
const tokens = JSON.parse(options.tokens);
const truth = fs.openSync(options.truth, 'a');
const certificate = process.env.LAB_CERTIFICATE;
const behind = `${certificate ? 'https' : 'http'}://127.0.0.1:${options.upstream}`;
const STATIC = '5d0f63d1e1b14a0b9c1c';
const EXCHANGED = { acme: '0c2f9d4a7be84c6cb1aa', globex: 'e91b7720c3f5409f8d5e' };
let ordinal = 0;

async function answer(request) {
  const own = (request.headers.get('authorization') ?? '').replace('Bearer ', '');
  const tenant = tokens[own];
  if (tenant === undefined) return Response.json({ error: 'no such token' }, { status: 401 });
  const token = { forward: own, exchange: EXCHANGED[tenant], static: STATIC }[options.mode];
  const path = new URL(request.url).pathname;
  const url = behind + (options.mode === 'forward' ? path : `/api/v1${path}`);
  fs.writeSync(truth, JSON.stringify({ port: 0, ordinal: ordinal++, tenant, at: Date.now() / 1000 }) + '\n');
  const tls = certificate ? { ca: Bun.file(certificate) } : undefined;
  const response = await fetch(url, { headers: { authorization: `Bearer ${token}` }, tls });
  return new Response(await response.text(), { status: response.status, headers: { 'content-type': 'application/json' } });
}

const server = Bun.serve({
  hostname: '127.0.0.1',
  port: 0,
  idleTimeout: 255,
  tls: certificate ? { cert: Bun.file(certificate), key: Bun.file(process.env.LAB_KEY) } : undefined,
  fetch: answer,
});
console.log(`PORT ${server.port}`);
