// What the lab's queue programs on Node.js have in common; as queue_common.py, whose words it uses.
'use strict';

const crypto = require('node:crypto');
const fs = require('node:fs');
const readline = require('node:readline');
const { parseArgs } = require('node:util');

const text = { type: 'string' };

function arguments_() {
  const { values } = parseArgs({
    options: {
      role: text, variant: text, broker: text, queue: text, tenant: text, tag: text, token: text, database: text,
      policy: text, truth: text, mode: text, prefetch: text, pool: text, crash: text, storm: text,
      key: { type: 'boolean' },
    },
  });
  return { tag: 'none', mode: 'unbound', prefetch: '1', pool: '1', ...values };
}

function message(options, kind) {
  const ref = crypto.randomUUID();
  const headers = options.tag === 'header' ? { 'x-tenant-id': options.tenant } : {};
  return { ref, headers, body: JSON.stringify({ kind, ref }) };
}

async function takesOrders(publish) {
  console.log('READY');
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const { rounds, kind } = JSON.parse(line);
    const refs = [];
    for (let i = 0; i < rounds; i += 1) refs.push(await publish(kind));
    console.log('SEEN ' + JSON.stringify({ refs }));
  }
  console.log('DONE');
  process.exit(0);
}

class Worker {
  constructor(options) {
    const { Pool } = require('pg');
    this.options = options;
    this.truth = fs.openSync(options.truth, 'a');
    this.pool = new Pool({
      host: '127.0.0.1', port: Number(options.database), database: 'shop', user: 'app', max: Number(options.pool),
      idleTimeoutMillis: 0,
    });
  }

  async work(body, headers) {
    const { kind, ref } = JSON.parse(body);
    const { mode } = this.options;
    const tenant = headers['x-tenant-id'];
    const table = mode === 'unbound' ? 'stock' : 'orders';
    const client = await this.pool.connect();
    const rows = {};
    try {
      const bind = (local) => client.query(`SELECT set_config('app.tenant_id', $1, ${local})`, [tenant]);
      if (mode === 'per-transaction') {
        await client.query('BEGIN');
        await bind(true);
      } else if (mode === 'session-set' && kind !== 'peek') {
        await bind(false);
      }
      const found = await client.query(`SELECT tenant, item FROM ${table} WHERE item <> $1 ORDER BY id LIMIT 3`, [ref]);
      for (const row of found.rows) rows[row.tenant] = (rows[row.tenant] ?? 0) + 1;
      await client.query('INSERT INTO visits (ref) VALUES ($1)', [ref]);
      if (mode === 'per-transaction') await client.query('COMMIT');
    } finally {
      client.release();
    }
    const line = { ref, tenant: tenant ?? null, rows, port: client.connection.stream.localPort, again: false };
    fs.writeSync(this.truth, JSON.stringify({ ...line, at: Date.now() / 1000 }) + '\n');
  }
}

module.exports = { Worker, arguments_, message, takesOrders };
