// A shared service on Node.js: http, and a pool of node-postgres that all tenants share. Modes as in sql_work.py.
'use strict';

const { Pool } = require('pg');
const { options, serve, whose, works } = require('./service_common.js');

const pool = new Pool({
  host: '127.0.0.1', port: Number(options.upstream), database: 'shop', user: 'app', max: Number(options.pool),
  idleTimeoutMillis: 0,
});

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
  const tenant = whose(request);
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

// node-postgres is told of TLS by its own environment.
serve(answer);
