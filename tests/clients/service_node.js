// A shared service on Node.js: http, and a pool of node-postgres that all tenants share. Modes as in sql_work.py.
'use strict';

const fs = require('node:fs');
const http = require('node:http');
const https = require('node:https');
const { parseArgs } = require('node:util');
const { Pool } = require('pg');

const text = { type: 'string' };
const { values: options } = parseArgs({
  options: { upstream: text, truth: text, tokens: text, mode: text, pool: text, comment: { type: 'boolean' } },
});
const tokens = JSON.parse(options.tokens);
const truth = fs.openSync(options.truth, 'a');
const ordinals = new Map();
const pool = new Pool({
  host: '127.0.0.1', port: Number(options.upstream), database: 'shop', user: 'app', max: Number(options.pool),
  idleTimeoutMillis: 0,
});

// Called right before an operation is sent.
function works(port, tenant) {
  const ordinal = ordinals.get(port) ?? 0;
  ordinals.set(port, ordinal + 1);
  fs.writeSync(truth, JSON.stringify({ port, ordinal, tenant, at: Date.now() / 1000 }) + '\n');
}

function statements(kind, ref, tenant, comment) {
  const table = options.mode === 'unbound' ? 'stock' : 'orders';
  const work = [];
  if (options.mode === 'per-transaction') {
    work.push(["SELECT set_config('app.tenant_id', $1, true)", [tenant], false]);
  } else if (options.mode === 'session-set' && kind !== 'peek') {
    work.push(["SELECT set_config('app.tenant_id', $1, false)", [tenant], false]);
  }
  if (kind === 'summary') {
    work.push([`SELECT tenant, item FROM ${table} ORDER BY id LIMIT 3${comment}`, [], true]);
  } else {
    work.push([`SELECT tenant, item FROM ${table} WHERE item <> $1 ORDER BY id LIMIT 3${comment}`, [ref], true]);
    work.push([`INSERT INTO visits (ref) VALUES ($1)${comment}`, [ref], true]);
  }
  return work;
}

async function answer(request) {
  const tenant = tokens[(request.headers.authorization ?? '').replace('Bearer ', '')];
  if (tenant === undefined) return [401, { error: 'no such token' }];
  const [, kind, ref] = request.url.split('/');
  const context = request.headers.traceparent;
  const comment = options.comment && context ? ` /*traceparent='${context}'*/` : '';
  const inTransaction = options.mode === 'per-transaction';
  const rows = [];
  const client = await pool.connect();
  try {
    if (inTransaction) await client.query('BEGIN');
    for (const [sql, parameters, isData] of statements(kind, ref, tenant, comment)) {
      if (isData) works(client.connection.stream.localPort, tenant);
      const result = await client.query(sql, parameters);
      if (isData) rows.push(...result.rows);
    }
    if (inTransaction) await client.query('COMMIT');
  } finally {
    client.release();
  }
  return [200, { rows, ref }];
}

// node-postgres is told by its own environment.
const certificate = process.env.LAB_CERTIFICATE;
const tls = certificate ? { cert: fs.readFileSync(certificate), key: fs.readFileSync(process.env.LAB_KEY) } : {};
const server = (certificate ? https : http).createServer(tls, (request, response) => {
  answer(request)
    .catch((error) => [500, { error: String(error) }])
    .then(([status, body]) => {
      const whole = JSON.stringify(body);
      response.writeHead(status, { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(whole) });
      response.end(whole);
    });
});
server.keepAliveTimeout = 300_000;
server.listen(0, '127.0.0.1', () => console.log(`PORT ${server.address().port}`));
