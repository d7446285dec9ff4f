// Prisma on its adapter for node-postgres (row-level security in a batch, and a condition, both by client extensions),
// MikroORM (a schema per tenant, a filter), pg-promise (SET LOCAL in its transaction).
'use strict';

const { options, numbers, url, serve } = require('../recipe.js');

const other = (tenant) => (tenant === 'acme' ? 'globex' : 'acme');
const plain = (rows) => rows.map(({ tenant, item }) => ({ tenant, item }));

const text = { tenant: 'String', item: 'String' };
const tables = {
  Order: ['orders', { id: 'Int', ...text }],
  Stock: ['stock', { id: 'Int', ...text }],
  Doc: ['docs', { id: 'Int', tenant_id: 'Int', ...text }],
  Visit: ['visits', { ref: 'String' }],
};

// What `prisma generate` writes, without its command line, which asks for an engine that migrations alone need.
function prisma() {
  const { getPrismaClient } = require('@prisma/client/runtime/client.js');
  const { PrismaPg } = require('@prisma/adapter-pg');
  const of = '@prisma/client/runtime/query_compiler_fast_bg.postgresql';
  const models = Object.entries(tables).map(([name, [dbName, fields]]) => {
    const all = Object.entries(fields).map(([field, type]) => ({ name: field, kind: 'scalar', type }));
    return [name, { dbName, schema: null, fields: all }];
  });
  const key = { id: '@id @default(autoincrement())', ref: '@id' };
  const inlineSchema = Object.entries(tables).map(([name, [dbName, fields]]) => {
    const lines = Object.entries(fields).map(([field, type]) => `  ${field} ${type} ${key[field] ?? ''}`);
    return `model ${name} {\n${lines.join('\n')}\n  @@map("${dbName}")\n}`;
  });
  const PrismaClient = getPrismaClient({
    previewFeatures: [],
    clientVersion: require('@prisma/client/package.json').version,
    engineVersion: '',
    activeProvider: 'postgresql',
    inlineSchema: ['datasource db {\n  provider = "postgresql"\n}', ...inlineSchema].join('\n'),
    runtimeDataModel: { models: Object.fromEntries(models), enums: {}, types: {} },
    parameterizationSchema: { strings: [], graph: 'AAAAAAAAAAAAAAAAAAAAAA' },
    compilerWasm: {
      getRuntime: async () => require(`${of}.js`),
      getQueryCompilerWasmModule: async () =>
        new WebAssembly.Module(Buffer.from(require(`${of}.wasm-base64.js`).wasm, 'base64')),
      importName: './query_compiler_fast_bg.js',
    },
  });
  const adapter = new PrismaPg({ connectionString: url, max: options.pool });
  return new PrismaClient({ adapter, transactionOptions: { maxWait: 60000, timeout: 60000 } });
}

async function mikro(more) {
  const { MikroORM, EntitySchema } = require('@mikro-orm/postgresql');
  const properties = (fields) => ({ id: { type: 'number', primary: true }, ...fields });
  const strings = { tenant: { type: 'string' }, item: { type: 'string' } };
  const Order = new EntitySchema({ name: 'Order', tableName: 'shop_order', schema: '*', properties: properties(strings) });
  const Doc = new EntitySchema({
    name: 'Doc', tableName: 'docs', properties: properties({ tenant_id: { type: 'number' }, ...strings }),
    filters: { own: { name: 'own', cond: ({ id }) => ({ tenant_id: id }), default: true } },
  });
  const orm = await MikroORM.init({
    clientUrl: url, entities: [Order, Doc], pool: { min: options.pool, max: options.pool }, debug: false, ...more,
  });
  return { orm, Order, Doc };
}

const ways = {
  // Prisma's own example: an extension that puts every query behind set_config in a batch.
  'prisma-rls': async () => {
    const client = prisma();
    const bound = (tenant) =>
      client.$extends({
        query: {
          $allModels: {
            async $allOperations({ args, query }) {
              const [, result] = await client.$transaction([
                client.$executeRaw`SELECT set_config('app.tenant_id', ${tenant}, TRUE)`,
                query(args),
              ]);
              return result;
            },
          },
        },
      });
    return async (tenant, ref, kind) => {
      const where = { item: { not: ref } };
      if (kind === 'peek') return plain(await client.stock.findMany({ where, take: 3 }));
      const own = bound(tenant);
      const rows = await own.order.findMany({ where, take: 3 });
      await own.visit.createMany({ data: [{ ref }] });
      return plain(rows);
    };
  },
  // The same with the tenant's condition in every query.
  'prisma-column': async () => {
    const client = prisma();
    const own = (id) =>
      client.$extends({
        query: { doc: { findMany: ({ args, query }) => query({ ...args, where: { ...args.where, tenant_id: id } }) } },
      });
    return async (tenant, ref, kind) => {
      const docs = kind === 'peek' ? client.doc : own(numbers[tenant]).doc;
      const rows = await docs.findMany({ where: { item: { not: ref } }, take: 3 });
      if (kind !== 'peek') await client.doc.create({ data: { tenant_id: numbers[tenant], tenant, item: ref } });
      return plain(rows);
    };
  },
  'mikro-schema': async () => {
    const { orm, Order } = await mikro();
    return async (tenant, ref, kind) => {
      const em = orm.em.fork({ schema: kind === 'peek' ? other(tenant) : tenant });
      return plain(await em.find(Order, { item: { $ne: ref } }, { limit: 3 }));
    };
  },
  'mikro-filter': async () => {
    const { orm, Doc } = await mikro();
    return async (tenant, ref, kind) => {
      const em = orm.em.fork();
      em.setFilterParams('own', { id: numbers[tenant] });
      const filters = kind === 'peek' ? { own: false } : {};
      return plain(await em.find(Doc, { item: { $ne: ref } }, { limit: 3, filters }));
    };
  },
  'pg-promise': async () => {
    const db = require('pg-promise')()({ connectionString: url, max: options.pool });
    return (tenant, ref, kind) => {
      if (kind === 'peek') return db.any('SELECT tenant, item FROM stock WHERE item <> $1 LIMIT 3', [ref]);
      return db.tx(async (t) => {
        await t.none('SET LOCAL app.tenant_id = $1', [tenant]);
        const rows = await t.any('SELECT tenant, item FROM orders WHERE item <> $1 LIMIT 3', [ref]);
        await t.none('INSERT INTO visits (ref) VALUES ($1)', [ref]);
        return rows;
      });
    };
  },
};

ways[options.mode]().then(serve);
