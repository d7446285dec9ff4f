"""A shared service before memcached: a thread per connection, and pymemcache's pool that all tenants share. Writes ask for
no answer, as is the library's default.

Modes: prefix    every key begins with the tenant
       unscoped  no tenant in any key"""

import json
import threading

from pymemcache.client.base import Client, PooledClient
from service_common import Truth, arguments, serve_threads, whose

MODES = ["prefix", "unscoped"]


def main():
    options = arguments(__doc__, MODES)
    truth = Truth(options.truth)
    server = ("127.0.0.1", options.upstream)
    # Whose work the thread does now.
    work = threading.local()

    class Told(Client):
        """The library's own client, which tells the truth before a command goes out."""

        def _store_cmd(self, *args, **options):
            self.works()
            return super()._store_cmd(*args, **options)

        def _fetch_cmd(self, *args, **options):
            self.works()
            return super()._fetch_cmd(*args, **options)

        def works(self):
            # The library connects with the first command; its port is known no sooner.
            if self.sock is None:
                self._connect()
            truth.works(self.sock.getsockname()[1], work.tenant)

    class Pool(PooledClient):
        client_class = Told

    pool = Pool(server, max_pool_size=options.pool)
    # The pool refuses who comes when it is empty; it does not let them wait.
    free = threading.BoundedSemaphore(options.pool)

    def answer(method, path, headers, body):
        tenant = whose(options.tokens, headers)
        if tenant is None:
            return 401, {"error": "no such token"}
        _, _, ref = path.split("/")
        key = f"{tenant}:orders:{ref}" if options.mode == "prefix" else f"orders:{ref}"
        work.tenant = tenant
        with free:
            if method == "PUT":
                pool.set(key, json.dumps({"tenant": tenant, "item": json.loads(body)["item"]}))
                return 200, {"rows": [], "ref": ref}
            value = pool.get(key)
        return 200, {"rows": [json.loads(value)] if value else [], "ref": ref}

    serve_threads(answer)


main()
