// A gateway on Node.js: http in front, behind it one channel of @grpc/grpc-js for all tenants. Modes as in service_gateway.py.
'use strict';

const fs = require('node:fs');
const http = require('node:http');
const { parseArgs } = require('node:util');
const grpc = require('@grpc/grpc-js');

const STATIC = '5d0f63d1e1b14a0b9c1c';
const EXCHANGED = { acme: '0c2f9d4a7be84c6cb1aa', globex: 'e91b7720c3f5409f8d5e' };

const text = { type: 'string' };
const { values: options } = parseArgs({
  options: { upstream: text, truth: text, tokens: text, mode: text, pool: text, comment: { type: 'boolean' } },
});
const tokens = JSON.parse(options.tokens);
const truth = fs.openSync(options.truth, 'a');
let ordinal = 0;

// Called right before an operation is sent.
function works(port, tenant) {
  fs.writeSync(truth, JSON.stringify({ port, ordinal: ordinal++, tenant, at: Date.now() / 1000 }) + '\n');
}

// google.protobuf.StringValue: one text, in field 1. Its length is a number in base 128, least digit first.
function write(value) {
  const [bytes, length] = [Buffer.from(value), []];
  let rest = bytes.length;
  for (; rest > 127; rest >>= 7) length.push((rest & 127) | 128);
  return value === '' ? bytes : Buffer.concat([Buffer.from([10, ...length, rest]), bytes]);
}

function read(message) {
  let at = 1;
  while (message[at] > 127) at += 1;
  return message.subarray(at + 1).toString();
}

const channel = new grpc.Client(`127.0.0.1:${options.upstream}`, grpc.credentials.createInsecure());

function call(method, value, metadata) {
  return new Promise((resolve, reject) => {
    const done = (error, answer) => (error ? reject(error) : resolve(answer));
    channel.makeUnaryRequest(method, write, read, value, metadata, done);
  });
}

async function answer(port, request) {
  const own = request.headers.authorization ?? '';
  const tenant = tokens[own.replace('Bearer ', '')];
  if (tenant === undefined) return [401, JSON.stringify({ error: 'no such token' })];
  const metadata = new grpc.Metadata();
  const token = { forward: own, exchange: `Bearer ${EXCHANGED[tenant]}`, static: `Bearer ${STATIC}` }[options.mode];
  metadata.set('authorization', token);
  if (options.comment && request.headers.traceparent) metadata.set('traceparent', request.headers.traceparent);
  works(port, tenant);
  const path = options.mode === 'forward' ? request.url : `/api/v1${request.url}`;
  return [200, await call('/lab.v1.Orders/Get', path, metadata)];
}

async function main() {
  // To ask for health is nobody's work; the answer is the port of this end of the connection.
  const port = Number(await call('/grpc.health.v1.Health/Check', '', new grpc.Metadata()));
  const server = http.createServer((request, response) => {
    answer(port, request)
      .catch((error) => [500, JSON.stringify({ error: String(error) })])
      .then(([status, whole]) => {
        response.writeHead(status, { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(whole) });
        response.end(whole);
      });
  });
  server.keepAliveTimeout = 300_000;
  server.listen(0, '127.0.0.1', () => console.log(`PORT ${server.address().port}`));
}

main();
