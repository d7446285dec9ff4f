"""A gateway that keeps answers with requests-cache: by the address alone, as is its default, or by the caller's
credential as well (`match_headers`)."""

import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), ".."))

import requests_cache
from recipe import options, serve_wsgi

OPTIONS = options(__doc__, ["by-address", "by-credential"])
more = {"match_headers": ["Authorization"], "ignored_parameters": []} if OPTIONS.mode == "by-credential" else {}
session = requests_cache.CachedSession(backend="memory", expire_after=300, **more)
session.trust_env = False


def application(environ, start_response):
    headers = {"Authorization": environ["HTTP_AUTHORIZATION"]}
    got = session.get(f"http://127.0.0.1:{OPTIONS.upstream}{environ['PATH_INFO']}", headers=headers)
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(got.content)))])
    return [got.content]


if __name__ == "__main__":
    serve_wsgi(application, 2 * OPTIONS.pool)
