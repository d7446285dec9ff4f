"""Caches that frameworks keep in Redis: Django's with a prefix for each tenant (`KEY_FUNCTION`) or without, Flask-Caching by
path, which names whose it is or does not."""

import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), ".."))

from recipe import bearer, options, serve_wsgi

OPTIONS = options(__doc__, ["django", "flask"])
URL = f"redis://127.0.0.1:{OPTIONS.upstream}/0"


def with_django():
    import contextvars

    import django
    from django.conf import settings

    tenant = contextvars.ContextVar("tenant")

    def key(name, prefix, version):
        # As django-tenants has it: the schema stands before every key.
        return f"{tenant.get()}:{prefix}:{version}:{name}"

    def cache(more):
        return {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": URL, "TIMEOUT": 1, **more}

    settings.configure(CACHES={"default": cache({"KEY_FUNCTION": key}), "plain": cache({})})
    django.setup()
    from django.core.cache import caches

    def application(environ, start_response):
        name = OPTIONS.tokens[bearer({"Authorization": environ["HTTP_AUTHORIZATION"]})]
        tenant.set(name)
        _, kind, ref = environ["PATH_INFO"].split("/")
        of = caches["plain" if kind == "peek" else "default"]
        rows = of.get_or_set("orders.summary", lambda: [{"tenant": name, "item": ref}], timeout=0.15)
        body = json.dumps({"rows": rows, "ref": ref}).encode()
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body]

    serve_wsgi(application, 2 * OPTIONS.pool)


def with_flask():
    import flask
    from flask_caching import Cache

    app = flask.Flask(__name__)
    cache = Cache(app, config={"CACHE_TYPE": "RedisCache", "CACHE_REDIS_URL": URL, "CACHE_DEFAULT_TIMEOUT": 1})

    @app.get("/<kind>/<ref>")
    def work(kind, ref):
        name = OPTIONS.tokens[bearer(flask.request.headers)]

        @cache.memoize()
        def summary(of):
            return [{"tenant": name, "item": ref}]

        return {"rows": summary("all" if kind == "peek" else name), "ref": ref}

    serve_wsgi(app, 2 * OPTIONS.pool)


if __name__ == "__main__":
    with_django() if OPTIONS.mode == "django" else with_flask()
