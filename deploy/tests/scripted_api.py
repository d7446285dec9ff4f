"""An API server that knows just enough for the Helm engine: discovery, and objects that are kept in memory.

It lets the real engine install, upgrade and render without a cluster. What a real API server would refuse is found by
`kubernetes_validate` and, in `cargo xtask cluster`, by a real one.
"""

import base64
import http.server
import json
import threading

import yaml

# group/version -> [(plural, kind, namespaced)]
KINDS = {
    "v1": [
        ("configmaps", "ConfigMap", True),
        ("namespaces", "Namespace", False),
        ("secrets", "Secret", True),
        ("serviceaccounts", "ServiceAccount", True),
        ("services", "Service", True),
    ],
    "apps/v1": [("daemonsets", "DaemonSet", True)],
    "networking.k8s.io/v1": [("networkpolicies", "NetworkPolicy", True)],
    "rbac.authorization.k8s.io/v1": [
        ("clusterrolebindings", "ClusterRoleBinding", False),
        ("clusterroles", "ClusterRole", False),
    ],
    "scheduling.k8s.io/v1": [("priorityclasses", "PriorityClass", False)],
}
OPERATOR = {
    "monitoring.coreos.com/v1": [
        ("podmonitors", "PodMonitor", True),
        ("prometheusrules", "PrometheusRule", True),
    ]
}
OPENSHIFT = {"security.openshift.io/v1": [("securitycontextconstraints", "SecurityContextConstraints", False)]}
VERBS = ["create", "delete", "get", "list", "patch", "update", "watch"]


class ScriptedApi:
    """Serves on a port of its own until `close`."""

    def __init__(self, version="v1.33.0", operator=False, openshift=False):
        self.version = version
        self.kinds = {**KINDS, **(OPERATOR if operator else {}), **(OPENSHIFT if openshift else {})}
        self.objects = {}
        self.lock = threading.Lock()
        self.revision = 0
        api = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Head and body in one packet: otherwise the other side's delayed acknowledgement costs 40 ms each time.
            wbufsize = -1

            def log_message(self, *_):
                pass

            def answer(self, status, body):
                text = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def body(self):
                raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if raw.startswith(PROTOBUF):
                    return secret(raw)
                return json.loads(raw) if raw else None

            def do_GET(self):
                if self.path.startswith("/openapi/v2"):
                    # An empty document, as protobuf writes it: the engine validates nothing that it does not know.
                    self.send_response(200)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                self.answer(*api.get(self.path))

            def do_POST(self):
                self.answer(*api.put(self.path, self.body(), create=True))

            def do_PUT(self):
                self.answer(*api.put(self.path, self.body()))

            def do_PATCH(self):
                self.answer(*api.patch(self.path, self.body()))

            def do_DELETE(self):
                self.body()
                self.answer(*api.delete(self.path))

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def kubeconfig(self):
        port = self.server.server_address[1]
        return yaml.dump({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
            "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        })

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def kept(self, kind):
        with self.lock:
            return [o for o in self.objects.values() if o.get("kind") == kind]

    def resources(self, group_version):
        return {
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": group_version,
            "resources": [
                {"name": plural, "singularName": kind.lower(), "namespaced": inside, "kind": kind, "verbs": VERBS}
                for plural, kind, inside in self.kinds[group_version]
            ],
        }

    def groups(self):
        groups = []
        for group_version in self.kinds:
            if "/" in group_version:
                version = {"groupVersion": group_version, "version": group_version.split("/")[1]}
                groups.append({"name": group_version.split("/")[0], "versions": [version], "preferredVersion": version})
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}

    def get(self, url):
        path, _, query = url.partition("?")
        parts = path.strip("/").split("/")
        if path == "/version":
            major, minor = self.version.lstrip("v").split(".")[:2]
            return 200, {"major": major, "minor": minor, "gitVersion": self.version, "platform": "linux/amd64"}
        if path == "/api":
            return 200, {"kind": "APIVersions", "versions": ["v1"]}
        if path == "/apis":
            return 200, self.groups()
        if parts[0] == "api" and len(parts) == 2:
            return 200, self.resources(parts[1])
        if parts[0] == "apis" and len(parts) == 3 and "/".join(parts[1:]) in self.kinds:
            return 200, self.resources("/".join(parts[1:]))
        with self.lock:
            if path in self.objects:
                return 200, self.objects[path]
            plurals = {plural: kind for kinds in self.kinds.values() for plural, kind, _ in kinds}
            if parts[-1] in plurals:
                wanted = dict(
                    term.split("%3D", 1)
                    for key, _, value in (pair.partition("=") for pair in query.split("&"))
                    if key == "labelSelector"
                    for term in value.replace("=", "%3D").split("%2C")
                    if "%3D" in term
                )
                items = [
                    o for p, o in self.objects.items()
                    if p.startswith(path + "/")
                    and all(o["metadata"].get("labels", {}).get(k) == v for k, v in wanted.items())
                ]
                version = "v1" if parts[0] == "api" else "/".join(parts[1:3])
                return 200, {
                    "kind": plurals[parts[-1]] + "List",
                    "apiVersion": version,
                    "metadata": {"resourceVersion": str(self.revision)},
                    "items": items,
                }
        return missing(path)

    def put(self, url, body, create=False):
        path = url.partition("?")[0]
        if create:
            path = f"{path}/{body['metadata']['name']}"
        with self.lock:
            if create and path in self.objects:
                return 409, status(409, "AlreadyExists", path)
            return 201 if create else 200, self.keep(path, body)

    def patch(self, url, body):
        path = url.partition("?")[0]
        with self.lock:
            if path not in self.objects:
                return missing(path)
            return 200, self.keep(path, merged(self.objects[path], body))

    def delete(self, url):
        path = url.partition("?")[0]
        with self.lock:
            if self.objects.pop(path, None) is None:
                return missing(path)
        return 200, {"kind": "Status", "apiVersion": "v1", "status": "Success"}

    def keep(self, path, body):
        self.revision += 1
        body["metadata"].update({"uid": f"uid-{path}", "resourceVersion": str(self.revision)})
        self.objects[path] = body
        return body


def merged(old, new):
    """A merge patch (RFC 7386); good enough for the strategic ones that the engine sends."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return new
    out = dict(old)
    for key, value in new.items():
        if value is None:
            out.pop(key, None)
        elif not key.startswith("$"):
            out[key] = merged(old.get(key), value)
    return out


# What Kubernetes writes in front of protobuf.
PROTOBUF = b"k8s\x00"


def fields(raw):
    """The fields of a protobuf message: number -> values; numbers and byte strings, which is all that is met here."""
    out, at = {}, 0

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte = raw[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(raw):
        key = number()
        if key & 7 == 0:
            value = number()
        elif key & 7 == 2:
            length = number()
            value = raw[at : at + length]
            at += length
        else:
            raise ValueError(f"protobuf wire type {key & 7}")
        out.setdefault(key >> 3, []).append(value)
    return out


def secret(raw):
    """A Secret of the engine's typed client (k8s.io/api/core/v1/generated.proto)."""
    body = fields(fields(raw[len(PROTOBUF) :])[2][0])
    meta = fields(body[1][0])

    def pairs(entries):
        return [(fields(e)[1][0].decode(), fields(e)[2][0]) for e in entries]

    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": meta[1][0].decode(),
            "namespace": meta[3][0].decode(),
            "labels": {key: value.decode() for key, value in pairs(meta.get(11, []))},
        },
        "data": {key: base64.b64encode(value).decode() for key, value in pairs(body.get(2, []))},
        "type": body[3][0].decode(),
    }


def status(code, reason, path):
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": path}


def missing(path):
    return 404, status(404, "NotFound", f"not found: {path}")
