"""Flask on Redis: sessions on the server (Flask-Session), a lock for all tenants, rate limits (Flask-Limiter), and a
cache with a key per tenant or one for all."""

import json

import flask
import flask_session
import redis
from recipe import bearer, options, serve_wsgi

OPTIONS = options(__doc__, ["sessions", "lock", "limiter", "cache", "history"])
WAY = OPTIONS.mode
store = redis.Redis(
    connection_pool=redis.BlockingConnectionPool(port=OPTIONS.upstream, max_connections=OPTIONS.pool, timeout=60)
)
app = flask.Flask(__name__)

if WAY == "sessions":
    app.config.update(SESSION_TYPE="redis", SESSION_REDIS=store, SECRET_KEY="only-in-the-lab")
    flask_session.Session(app)
if WAY == "limiter":
    import flask_limiter

    limiter = flask_limiter.Limiter(
        lambda: "everybody", app=app, storage_uri=f"redis://127.0.0.1:{OPTIONS.upstream}",
        storage_options={"connection_pool": store.connection_pool}, default_limits=["100000 per minute"],
        strategy="moving-window",
    )


@app.get("/<kind>/<ref>")
def work(kind, ref):
    tenant = OPTIONS.tokens[bearer(flask.request.headers)]
    forgot = kind == "peek"
    rows = []
    if WAY == "sessions":
        flask.session["tenant"] = tenant
        flask.session["last"] = ref
    elif WAY == "lock":
        with store.lock("locks:nightly", timeout=5, sleep=0.01):
            store.set(f"{tenant}:job:{ref}", "done", ex=60)
    elif WAY == "limiter":
        store.set(f"{tenant}:order:{ref}", ref, ex=60)
    elif WAY == "cache":
        key = "orders:summary" if forgot else f"{tenant}:orders:summary"
        found = store.get(key)
        if found is None:
            found = json.dumps([{"tenant": tenant, "item": ref}]).encode()
            store.set(key, found, px=150)
        rows = json.loads(found)
    else:
        # LangChain's RedisChatMessageHistory keeps a list; the forgotten session id is everybody's.
        key = "message_store:default" if forgot else f"message_store:{tenant}"
        rows = [json.loads(line) for line in store.lrange(key, 0, 2)]
        store.lpush(key, json.dumps({"tenant": tenant, "item": ref}))
    return {"rows": rows, "ref": ref}


if __name__ == "__main__":
    serve_wsgi(app, 2 * OPTIONS.pool)
