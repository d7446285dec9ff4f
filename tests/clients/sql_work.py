"""What the lab's services do on PostgreSQL or MariaDB for one request, as lists of statements: (SQL, parameters, is it
data?).

Paths: /orders/REF binds the tenant as the mode says; /peek/REF is the one that forgot to; /summary carries no value
that anybody else's request would not carry."""

MODES = ["unbound", "session-set", "per-transaction"]

# How a mode binds.
POSTGRES = {
    "per-transaction": "SELECT set_config('app.tenant_id', $1, true)",
    "session-set": "SELECT set_config('app.tenant_id', $1, false)",
}
MYSQL = {"per-checkout": "SET @tenant_id = $1", "session-set": "SET @tenant_id = $1"}

JOB_PAUSE = 0.05


def route(path):
    """Kind of request and its reference, or None for a path that is not served."""
    _, kind, *rest = path.split("?")[0].split("/")
    if kind not in ("orders", "peek", "summary"):
        return None
    return kind, rest[0] if rest else None


def statements(mode, kind, ref, tenant, comment="", binds=POSTGRES):
    # Without row security in `stock`: nothing needs to be bound to see it. `orders` shows nothing to the unbound.
    table = "stock" if mode in ("unbound", "predicate") else "orders"
    work = []
    if mode in binds and not (mode == "session-set" and kind == "peek"):
        work.append((binds[mode], [tenant], False))
    if kind == "summary":
        work.append((f"SELECT tenant, item FROM {table} ORDER BY id LIMIT 3{comment}", [], True))
    elif mode == "predicate":
        own = f"SELECT tenant, item FROM {table} WHERE tenant = $1 AND item <> $2 ORDER BY id LIMIT 3{comment}"
        work.append((own, [tenant, ref], True))
        work.append((f"INSERT INTO visits (tenant, ref) VALUES ($1, $2){comment}", [tenant, ref], True))
    else:
        work.append((f"SELECT tenant, item FROM {table} WHERE item <> $1 ORDER BY id LIMIT 3{comment}", [ref], True))
        work.append((f"INSERT INTO visits (ref) VALUES ($1){comment}", [ref], True))
    return work


def job(bound, tenant):
    """One round of the background job, in one transaction."""
    if bound:
        return statements("per-transaction", "summary", None, tenant)
    return [("SELECT tenant, item FROM stock ORDER BY id DESC LIMIT 2", [], True)]


def percent(sql):
    """With parameters as psycopg and everybody who speaks with MySQL writes them."""
    return sql.replace("$1", "%s").replace("$2", "%s")
