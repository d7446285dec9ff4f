"""What the lab's services do on PostgreSQL for one request, as lists of statements: (SQL, parameters, is it data?).

Paths: /orders/REF binds the tenant as the mode says; /peek/REF is the one that forgot to; /summary carries no value
that anybody else's request would not carry."""

MODES = ["unbound", "session-set", "per-transaction"]

JOB_PAUSE = 0.05


def route(path):
    """Kind of request and its reference, or None for a path that is not served."""
    _, kind, *rest = path.split("?")[0].split("/")
    if kind not in ("orders", "peek", "summary"):
        return None
    return kind, rest[0] if rest else None


def statements(mode, kind, ref, tenant, comment=""):
    # Without row security in `stock`: nothing needs to be bound to see it. `orders` shows nothing to the unbound.
    table = "stock" if mode == "unbound" else "orders"
    work = []
    if mode == "per-transaction":
        work.append(("SELECT set_config('app.tenant_id', $1, true)", [tenant], False))
    elif mode == "session-set" and kind != "peek":
        work.append(("SELECT set_config('app.tenant_id', $1, false)", [tenant], False))
    if kind == "summary":
        work.append((f"SELECT tenant, item FROM {table} ORDER BY id LIMIT 3{comment}", [], True))
    else:
        work.append((f"SELECT tenant, item FROM {table} WHERE item <> $1 ORDER BY id LIMIT 3{comment}", [ref], True))
        work.append((f"INSERT INTO visits (ref) VALUES ($1){comment}", [ref], True))
    return work


def job(bound, tenant):
    """One round of the background job, in one transaction."""
    if bound:
        return statements("per-transaction", "summary", None, tenant)
    return [("SELECT tenant, item FROM stock ORDER BY id DESC LIMIT 2", [], True)]


def psycopg(sql):
    return sql.replace("$1", "%s")
