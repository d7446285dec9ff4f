"""HAProxy before an HTTP service, its connections to it shared by all clients (`http-reuse always`): the sessions' cookies go
through, or a header makes one of them everybody's. `behind-…`: its clients come through a proxy that names them."""

import os
import tempfile

import recipe

OPTIONS = recipe.options(__doc__, ["cookies", "one-cookie", "behind-cookies", "behind-one-cookie"])

CONFIG = """
global
    maxconn 200
defaults
    mode http
    timeout connect 5s
    timeout client 300s
    timeout server 300s
frontend in
    bind 127.0.0.1:{port} {named}
    {rule}
    default_backend app
backend app
    http-reuse always
    server s1 127.0.0.1:{upstream} maxconn {pool} pool-max-conn {pool}
"""


def main():
    import socket

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    one = next(iter(OPTIONS.tokens))
    rule = f"http-request set-header Cookie sid={one}" if OPTIONS.mode.endswith("one-cookie") else ""
    named = "accept-proxy" if OPTIONS.mode.startswith("behind-") else ""
    file = tempfile.NamedTemporaryFile("w", suffix=".cfg", delete=False)
    with file:
        file.write(CONFIG.format(port=port, named=named, rule=rule, upstream=OPTIONS.upstream, pool=OPTIONS.pool))
    print(f"PORT {port}", flush=True)
    os.execvp("haproxy", ["haproxy", "-db", "-f", file.name])


main()
