-- What the recipes find in the database, beside the lab's own tables: directories that are read before anybody can be
-- bound, a schema per tenant by name and by number, and tables that a column divides. `app` may use all of it: what keeps
-- tenants apart is what an application does, so that a mistake really shows rows of somebody else's.
CREATE TABLE tenants (id int PRIMARY KEY, name text NOT NULL, schema_name text NOT NULL, host text NOT NULL);
INSERT INTO tenants VALUES
  (1842, 'acme', 'acme', 'acme.example.com'), (2077, 'globex', 'globex', 'globex.example.com');
CREATE TABLE api_keys (key text PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenants);
INSERT INTO api_keys VALUES ('b7c1d8f02e6a49d3', 1842), ('94e0aa5f1c7b42d6', 2077);
CREATE TABLE sessions (id text PRIMARY KEY, tenant_id int NOT NULL, data text NOT NULL, seen timestamptz DEFAULT now());
INSERT INTO sessions SELECT key, tenant_id, '{}' FROM api_keys;
CREATE TABLE plans (id int PRIMARY KEY, name text NOT NULL);
INSERT INTO plans VALUES (1, 'small'), (2, 'large');
CREATE TABLE customers_client (id int PRIMARY KEY, schema_name text UNIQUE NOT NULL, name text NOT NULL);
INSERT INTO customers_client SELECT id, schema_name, name FROM tenants;
CREATE TABLE customers_domain
  (id int PRIMARY KEY, domain text UNIQUE NOT NULL, is_primary boolean NOT NULL, tenant_id int NOT NULL);
INSERT INTO customers_domain SELECT id, host, true, id FROM tenants;
CREATE TABLE django_session (session_key text PRIMARY KEY, session_data text NOT NULL, expire_date timestamptz NOT NULL);
CREATE TABLE docs (id serial PRIMARY KEY, tenant_id int NOT NULL, tenant text NOT NULL, item text NOT NULL);
INSERT INTO docs (tenant_id, tenant, item)
  SELECT t.id, t.name, 'item ' || n FROM tenants t, generate_series(1, 40) AS n ORDER BY n, t.id;
GRANT SELECT ON tenants, api_keys, plans, customers_client, customers_domain TO app;
GRANT SELECT, INSERT, UPDATE, DELETE ON sessions, django_session, docs TO app, tenant_acme, tenant_globex;
GRANT USAGE ON SEQUENCE docs_id_seq TO app, tenant_acme, tenant_globex;
GRANT SELECT ON visits TO app;
GRANT INSERT ON visits TO tenant_acme, tenant_globex;

-- A user of each tenant's own, for who keeps a pool for each.
ALTER ROLE tenant_acme LOGIN;
ALTER ROLE tenant_globex LOGIN;
-- What is found where no tenant's schema is in the path: nobody's.
CREATE TABLE shop_order (id serial PRIMARY KEY, tenant text NOT NULL, item text NOT NULL);
GRANT SELECT, INSERT, UPDATE, DELETE ON shop_order TO app;
GRANT USAGE ON SEQUENCE shop_order_id_seq TO app;

CREATE FUNCTION pg_temp.tenant_schema(name text, tenant text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE format('CREATE SCHEMA %I', name);
  EXECUTE format('CREATE TABLE %I.shop_order (id serial PRIMARY KEY, tenant text NOT NULL, item text NOT NULL)', name);
  EXECUTE format('INSERT INTO %I.shop_order (tenant, item) SELECT %L, ''item '' || n FROM generate_series(1, 40) n', name, tenant);
  EXECUTE format('CREATE TABLE %I.visits (ref text NOT NULL)', name);
  EXECUTE format('GRANT USAGE ON SCHEMA %I TO app', name);
  EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA %I TO app', name);
  EXECUTE format('GRANT USAGE ON ALL SEQUENCES IN SCHEMA %I TO app', name);
END $$;
SELECT pg_temp.tenant_schema('acme', 'acme'), pg_temp.tenant_schema('globex', 'globex'),
  pg_temp.tenant_schema('c_1842', 'acme'), pg_temp.tenant_schema('c_2077', 'globex');
