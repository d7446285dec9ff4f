// Query builders and mappers on Node.js: a schema per tenant (Knex, Objection, Kysely, Sequelize, TypeORM), row-level
// security in a transaction (Drizzle, Knex, TypeORM), a column (Sequelize).
'use strict';

const { options, numbers, url, serve } = require('./recipe.js');

const other = (tenant) => (tenant === 'acme' ? 'globex' : 'acme');
const plain = (rows) => rows.map(({ tenant, item }) => ({ tenant, item }));
// The forgotten path of a schema per tenant: it asks in the one of somebody else.
const schemaOf = (tenant, kind) => (kind === 'peek' ? other(tenant) : tenant);

function knex() {
  return require('knex')({ client: 'pg', connection: url, pool: { min: options.pool, max: options.pool } });
}

const ways = {
  'knex-schema': async () => {
    const db = knex();
    return async (tenant, ref, kind) => {
      const schema = schemaOf(tenant, kind);
      const rows = await db.withSchema(schema).select('tenant', 'item').from('shop_order').whereNot({ item: ref }).limit(3);
      await db.withSchema(schema).insert({ ref }).into('visits');
      return rows;
    };
  },
  // Knex: searchPath is the pool's; per request it is said in a transaction.
  'knex-local': async () => {
    const db = knex();
    return (tenant, ref, kind) =>
      db.transaction(async (trx) => {
        if (kind !== 'peek') await trx.raw('SELECT set_config(?, ?, true)', ['app.tenant_id', tenant]);
        const table = kind === 'peek' ? 'stock' : 'orders';
        const rows = await trx.select('tenant', 'item').from(table).whereNot({ item: ref }).limit(3);
        await trx.insert({ ref }).into('visits');
        return rows;
      });
  },
  'objection-schema': async () => {
    const { Model } = require('objection');
    const db = knex();
    class Order extends Model {
      static tableName = 'shop_order';
    }
    Order.knex(db);
    return async (tenant, ref, kind) =>
      plain(await Order.query().withSchema(schemaOf(tenant, kind)).whereNot('item', ref).limit(3));
  },
  'kysely-schema': async () => {
    const { Kysely, PostgresDialect } = require('kysely');
    const { Pool } = require('pg');
    const db = new Kysely({ dialect: new PostgresDialect({ pool: new Pool({ connectionString: url, max: options.pool }) }) });
    return (tenant, ref, kind) =>
      db.withSchema(`c_${numbers[schemaOf(tenant, kind)]}`).selectFrom('shop_order').select(['tenant', 'item'])
        .where('item', '!=', ref).limit(3).execute();
  },
  'sequelize-schema': async () => {
    const { Sequelize, DataTypes, Op } = require('sequelize');
    const db = new Sequelize(url, { logging: false, pool: { max: options.pool, min: options.pool, idle: 300000 } });
    const Order = db.define('Order', { tenant: DataTypes.TEXT, item: DataTypes.TEXT },
      { tableName: 'shop_order', timestamps: false });
    return async (tenant, ref, kind) =>
      plain(await Order.schema(schemaOf(tenant, kind)).findAll({ where: { item: { [Op.ne]: ref } }, limit: 3 }));
  },
  'sequelize-scope': async () => {
    const { Sequelize, DataTypes, Op } = require('sequelize');
    const db = new Sequelize(url, { logging: false, pool: { max: options.pool, min: options.pool, idle: 300000 } });
    const Doc = db.define('Doc', { tenant_id: DataTypes.INTEGER, tenant: DataTypes.TEXT, item: DataTypes.TEXT },
      { tableName: 'docs', timestamps: false });
    Doc.addScope('of', (id) => ({ where: { tenant_id: id } }));
    return async (tenant, ref, kind) => {
      const docs = kind === 'peek' ? Doc : Doc.scope({ method: ['of', numbers[tenant]] });
      const rows = await docs.findAll({ where: { item: { [Op.ne]: ref } }, limit: 3 });
      if (kind !== 'peek') await Doc.create({ tenant_id: numbers[tenant], tenant, item: ref });
      return plain(rows);
    };
  },
  // TypeORM: a query runner for the request, whose connection's search path is said before and again after.
  'typeorm-path': async () => {
    const source = await typeorm();
    return async (tenant, ref, kind) => {
      const runner = source.createQueryRunner();
      await runner.connect();
      try {
        if (kind !== 'peek') await runner.query(`SET search_path TO "${tenant}", public`);
        const rows = await runner.manager.createQueryBuilder().select('tenant').addSelect('item')
          .from('shop_order', 'o').where('item <> :ref', { ref }).limit(3).getRawMany();
        return rows;
      } finally {
        await runner.release();
      }
    };
  },
  'typeorm-local': async () => {
    const source = await typeorm();
    return (tenant, ref, kind) =>
      source.transaction(async (manager) => {
        if (kind !== 'peek') await manager.query("SELECT set_config('app.tenant_id', $1, true)", [tenant]);
        const rows = await manager.query(
          `SELECT tenant, item FROM ${kind === 'peek' ? 'stock' : 'orders'} WHERE item <> $1 LIMIT 3`, [ref]);
        await manager.query('INSERT INTO visits (ref) VALUES ($1)', [ref]);
        return rows;
      });
  },
  // Drizzle's page on row-level security: claims and role for the transaction.
  'drizzle-rls': async () => {
    const { drizzle } = require('drizzle-orm/node-postgres');
    const { sql, ne } = require('drizzle-orm');
    const { pgTable, serial, text } = require('drizzle-orm/pg-core');
    const { Pool } = require('pg');
    const db = drizzle(new Pool({ connectionString: url, max: options.pool }));
    const columns = { id: serial('id'), tenant: text('tenant'), item: text('item') };
    const orders = pgTable('orders', columns);
    const stock = pgTable('stock', columns);
    return (tenant, ref, kind) =>
      db.transaction(async (tx) => {
        if (kind !== 'peek') {
          const claims = JSON.stringify({ sub: `u-${numbers[tenant]}`, org_id: tenant });
          await tx.execute(sql`select set_config('request.jwt.claims', ${claims}, true),
            set_config('app.tenant_id', ${tenant}, true)`);
          await tx.execute(sql.raw(`set local role tenant_${tenant}`));
        }
        const table = kind === 'peek' ? stock : orders;
        return plain(await tx.select().from(table).where(ne(table.item, ref)).limit(3));
      });
  },
};

async function typeorm() {
  require('reflect-metadata');
  const { DataSource } = require('typeorm');
  const source = new DataSource({ type: 'postgres', url, entities: [], extra: { max: options.pool, min: options.pool } });
  return source.initialize();
}

ways[options.mode]().then(serve);
