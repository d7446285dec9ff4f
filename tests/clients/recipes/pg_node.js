// node-postgres and postgres.js: SET LOCAL in a transaction, an API key that is looked up before, a client that is given
// back without its ROLLBACK, and a pool whose first use of a new connection is not bound.
'use strict';

const { options, url, serve } = require('./recipe.js');

const READ = 'SELECT tenant, item FROM orders WHERE item <> $1 ORDER BY id LIMIT 3';
const KEY = 'SELECT t.name FROM api_keys k JOIN tenants t ON t.id = k.tenant_id WHERE k.key = $1';

function pool() {
  const { Pool } = require('pg');
  return new Pool({ connectionString: url, max: options.pool, idleTimeoutMillis: 0 });
}

const ways = {
  // The look-up on a connection of its own time, then one transaction.
  'set-local': () => {
    const own = pool();
    return async (tenant, ref, kind, token) => {
      const { rows: [asked] } = await own.query(KEY, [token]);
      if (kind === 'peek') return (await own.query('SELECT tenant, item FROM stock WHERE item <> $1 LIMIT 3', [ref])).rows;
      const client = await own.connect();
      try {
        await client.query('BEGIN');
        await client.query(`SET LOCAL app.tenant_id = '${asked.name}'`);
        const { rows } = await client.query(READ, [ref]);
        await client.query('INSERT INTO visits (ref) VALUES ($1)', [ref]);
        await client.query('COMMIT');
        return rows;
      } catch (error) {
        await client.query('ROLLBACK');
        throw error;
      } finally {
        client.release();
      }
    };
  },
  // node-postgres #1612 and others: what goes wrong in the transaction leaves it open when the client is released.
  'no-rollback': () => {
    const own = pool();
    return async (tenant, ref, kind) => {
      const client = await own.connect();
      try {
        if (kind === 'peek') return (await client.query(READ, [ref])).rows;
        await client.query('BEGIN');
        await client.query("SELECT set_config('app.tenant_id', $1, true)", [tenant]);
        const { rows } = await client.query(READ, [ref]);
        if (kind === 'fails') throw new Error('the mail could not be sent');
        await client.query('COMMIT');
        return rows;
      } catch (error) {
        if (kind !== 'fails') throw error;
        return [];
      } finally {
        client.release();
      }
    };
  },
  // The same with the ROLLBACK in its place.
  rollback: () => {
    const own = pool();
    return async (tenant, ref, kind) => {
      const client = await own.connect();
      try {
        await client.query('BEGIN');
        await client.query("SELECT set_config('app.tenant_id', $1, true)", [tenant]);
        const { rows } = await client.query(READ, [ref]);
        if (kind === 'fails') throw new Error('the mail could not be sent');
        await client.query('COMMIT');
        return rows;
      } catch (error) {
        await client.query('ROLLBACK');
        if (kind !== 'fails') throw error;
        return [];
      } finally {
        client.release();
      }
    };
  },
  postgres: () => {
    const sql = require('postgres')(url, { max: options.pool });
    return async (tenant, ref, kind) => {
      if (kind === 'peek') return sql`SELECT tenant, item FROM stock WHERE item <> ${ref} LIMIT 3`;
      return sql.begin(async (tx) => {
        await tx`SELECT set_config('app.tenant_id', ${tenant}, true)`;
        const rows = await tx`SELECT tenant, item FROM orders WHERE item <> ${ref} ORDER BY id LIMIT 3`;
        await tx`INSERT INTO visits (ref) VALUES (${ref})`;
        return rows;
      });
    };
  },
};

serve(ways[options.mode]());
