"""Drives a real Kubernetes: `cluster.py node` on a whole node, `cluster.py api` against the API server alone.

`cargo xtask cluster` starts either and runs this in its network. Environment: KUBECONFIG, WORK, BIN (kubectl), AGENT (the
static binary, for `api`).
"""

import concurrent.futures
import glob
import http.client
import json
import os
import pathlib
import re
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request

import yaml

import helm

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
LAB = ROOT / "deploy" / "lab"
WORK = pathlib.Path(os.environ["WORK"])
KUBECTL = os.path.join(os.environ["BIN"], "kubectl")
KUBECONFIG = os.environ["KUBECONFIG"]
NAMESPACE = "leasewarden"
BEGAN = time.monotonic()


def say(text):
    print(f"    {time.monotonic() - BEGAN:5.1f} s  {text}")


def kubectl(*args, text=None):
    done = subprocess.run([KUBECTL, *args], input=text, capture_output=True, text=True, timeout=120)
    if done.returncode:
        raise AssertionError(f"kubectl {' '.join(args)}: {done.stderr.strip()}")
    return done.stdout


def until(seconds, what, ask):
    """Asks until the answer is true, says so, and gives it."""
    end, last = time.monotonic() + seconds, None
    while True:
        try:
            answer = ask()
            if answer:
                say(what)
                return answer
        except (AssertionError, OSError, ValueError, KeyError, IndexError) as error:
            last = error
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what}" + (f" ({last})" if last else ""))
        time.sleep(0.3)


def fetch(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def metric(text, name, **labels):
    """The value of a sample, 0 when there is none."""
    for line in text.splitlines():
        found = re.match(rf"{name}(?:{{(.*)}})? (\S+)$", line)
        if found and all(f'{k}="{v}"' in (found[1] or "") for k, v in labels.items()):
            return float(found[2])
    return 0.0


# ---- a whole node ----


def agent_pod():
    pods = json.loads(kubectl("-n", NAMESPACE, "get", "pods", "-o", "json"))["items"]
    (pod,) = [p for p in pods if not p["metadata"].get("deletionTimestamp")]
    return pod


def agent_url(path):
    return f"http://{agent_pod()['status']['podIP']}:9464{path}"


def values(config):
    name, tag = "leasewarden.io/lab/leasewarden", "test"
    return {
        "image": {"repository": name, "tag": tag, "pullPolicy": "Never"},
        "config": config,
        # This kernel's root cannot give what it has not: SYS_RESOURCE stays out.
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "384Mi"}},
    }


def rolled_out():
    daemon = json.loads(kubectl("-n", NAMESPACE, "get", "daemonset", "leasewarden", "-o", "json"))
    status = daemon["status"]
    current = status.get("observedGeneration") == daemon["metadata"]["generation"]
    return current and status.get("updatedNumberScheduled") == 1 and status.get("numberReady") == 1


def say_why_not():
    for args in (["get", "pods", "-A", "-o", "wide"], ["-n", NAMESPACE, "describe", "pods"],
                 ["-n", NAMESPACE, "logs", "-l", "app.kubernetes.io/name=leasewarden", "--tail=20"],
                 ["-n", "shared", "logs", "orders-db", "--tail=20"], ["-n", "shared", "logs", "pooler", "--tail=20"]):
        done = subprocess.run([KUBECTL, *args], capture_output=True, text=True, timeout=60)
        print(done.stdout[-4000:], done.stderr[-1000:])


def workloads():
    (pgbin, *_) = sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)
    return lambda file, tenant="": (LAB / file).read_text().replace("PGBIN", pgbin).replace("TENANT", tenant)


def phase(namespace, name):
    pod = json.loads(kubectl("-n", namespace, "get", "pod", name, "-o", "json"))
    return [c["status"] for c in pod["status"]["conditions"] if c["type"] == "Ready"] == ["True"]


def findings():
    status, text = fetch(agent_url("/findings"))
    assert status == 200, status
    return json.loads(text)


def node():
    helm.install(KUBECONFIG, values({}), namespace=NAMESPACE)
    say("chart installed by the Helm engine")
    until(120, "the agent's pod is ready", rolled_out)
    status, text = fetch(agent_url("/readyz"))
    assert status == 200, (status, text)
    say(f"/readyz: {text.strip()[:200]}")
    security = agent_pod()["spec"]["containers"][0]["securityContext"]
    assert security["privileged"] is False and security["capabilities"]["drop"] == ["ALL"], security

    put = workloads()
    kubectl("apply", "-f", "-", text=put("workloads.yaml"))
    until(90, "the database is ready", lambda: phase("shared", "orders-db"))
    until(60, "the pooler is ready", lambda: phase("shared", "pooler"))
    for tenant in ("acme", "globex"):
        kubectl("apply", "-f", "-", text=put("tenant.yaml", tenant))
    for tenant in ("acme", "globex"):
        until(60, f"{tenant} is at work", lambda t=tenant: phase(f"{t}-prod", f"agent-{t}"))
    helm.upgrade(KUBECONFIG, values({"limits": {"tenants": 50}}), namespace=NAMESPACE)
    until(180, "upgraded: a new configuration, a new pod", rolled_out)
    # Their sessions began before the new agent did: let them begin again.
    for tenant in ("acme", "globex"):
        kubectl("-n", f"{tenant}-prod", "delete", "pod", f"agent-{tenant}", "--now")
        kubectl("apply", "-f", "-", text=put("tenant.yaml", tenant))
    until(120, "both tenants are at work", lambda: all(phase(f"{t}-prod", f"agent-{t}") for t in ("acme", "globex")))

    def leak():
        for tenant, other in (("acme", "globex"), ("globex", "acme")):
            if other + "|" in kubectl("-n", f"{tenant}-prod", "logs", f"agent-{tenant}", "--tail=5"):
                return f"{tenant} sees rows of {other}"
        return None

    say("in their own logs: " + until(60, "one tenant sees the other's rows", leak))

    def finding():
        for found in findings():
            if found["rule"] == "pool-stale-binding" and set(found["tenant"].values()) == {"acme", "globex"}:
                return found
        return None

    found = until(60, "a finding names both tenants, from the labels of their namespaces", finding)
    assert found["workload"]["name"].startswith("shared/pooler"), found["workload"]
    assert found["service"]["name"] == "shared/orders-db", found["service"]
    say(f"{found['severity']} {found['rule']}: {found['message']}")
    say(f"in pod {found['workload']['name']}, service {found['service']['name']} at {found['service']['address']}")
    lines = kubectl("-n", NAMESPACE, "logs", agent_pod()["metadata"]["name"]).splitlines()
    assert any(line.startswith("{") and json.loads(line).get("rule") == found["rule"] for line in lines), "not in the log"
    say("it is in the pod's log, as a JSON line")
    text = fetch(agent_url("/metrics"))[1]
    assert metric(text, "leasewarden_identity_synced", source="kubernetes") == 1, text
    relabel()
    helm.uninstall(KUBECONFIG, namespace=NAMESPACE)
    until(180, "uninstalled: no pod is left",
          lambda: not json.loads(kubectl("-n", NAMESPACE, "get", "pods", "-o", "json"))["items"])


def relabel():
    """A namespace changes hands while everything runs."""
    kubectl("label", "namespace", "acme-prod", "leasewarden.io/tenant=initech", "--overwrite")
    kubectl("-n", "acme-prod", "delete", "pod", "agent-acme", "--now")
    kubectl("apply", "-f", "-", text=workloads()("tenant.yaml", "acme"))
    until(60, "a relabelled namespace: findings name the new tenant",
          lambda: [f for f in findings() if "initech" in json.dumps(f)])


# ---- the API server alone ----


class Api:
    """Requests by the administrator's token."""

    def __init__(self):
        config = yaml.safe_load(pathlib.Path(KUBECONFIG).read_text())
        self.server = config["clusters"][0]["cluster"]["server"]
        self.token = config["users"][0]["user"]["token"]
        self.tls = ssl.create_default_context(cafile=config["clusters"][0]["cluster"]["certificate-authority"])

    def call(self, method, path, body=None, kind="application/json"):
        request = urllib.request.Request(self.server + path, method=method)
        request.add_header("Authorization", f"Bearer {self.token}")
        if body is not None:
            request.add_header("Content-Type", kind)
            request.data = json.dumps(body).encode()
        with urllib.request.urlopen(request, timeout=30, context=self.tls) as answer:
            return json.loads(answer.read())


def make_pod(api, name, address, tenant):
    """A pod as a kubelet would report it: bound, running, with an address and a container."""
    path = "/api/v1/namespaces/churn/pods"
    api.call("POST", path, {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"leasewarden.io/tenant": tenant}},
        "spec": {"nodeName": "node1", "terminationGracePeriodSeconds": 0,
                 "containers": [{"name": "c", "image": "none"}]},
    })
    api.call("PATCH", f"{path}/{name}/status", {"status": {
        "phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
        "containerStatuses": [{
            "name": "c", "image": "none", "imageID": "", "ready": True, "restartCount": 0,
            "containerID": f"containerd://{abs(hash(name)) :064x}"[:77],
            "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
        }],
    }}, "application/merge-patch+json")


def remove_pod(api, name):
    api.call("DELETE", f"/api/v1/namespaces/churn/pods/{name}", {"gracePeriodSeconds": 0})


def address(n):
    return f"10.200.{n // 250}.{n % 250 + 1}"


def api():
    server = Api()
    # Pods of a node that is not there would be collected as orphans.
    server.call("POST", "/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node1"}})
    kubectl("create", "namespace", "churn")
    until(30, "its service account", lambda: kubectl("-n", "churn", "get", "serviceaccount", "default"))
    config = WORK / "agent.yaml"
    config.write_text(yaml.dump({
        "version": 1,
        "identity": {"kubernetes": {"enabled": "on", "node": "node1", "kubeconfig": KUBECONFIG, "remote_pods": True}},
        "export": {"listen": "127.0.0.1:9464"},
    }))
    cgroup = pathlib.Path(next(
        line.split()[1] for line in open("/proc/mounts") if line.split()[2] == "cgroup2")) / "leasewarden-cluster-api"
    cgroup.mkdir(exist_ok=True)
    log = open(WORK / "log" / "agent.log", "w")
    agent = subprocess.Popen(
        [os.environ["AGENT"], "run", "--config", str(config), "--cgroup", "/leasewarden-cluster-api"],
        stdout=log, stderr=log)
    service = None
    try:
        service = Service(cgroup)
        churn(server, agent, service)
    finally:
        agent.terminate()
        agent.wait(20)
        if service:
            service.close()
        cgroup.rmdir()
    assert agent.returncode == 0, f"the agent ended with {agent.returncode}"
    say("the agent drained and ended with 0")


class Service:
    """A web server in the watched cgroup, to which pods' addresses speak: what the agent calls them is in /services."""

    def __init__(self, cgroup):
        code = (
            "import http.server, os\n"
            f"open('{cgroup}/cgroup.procs', 'w').write(str(os.getpid()))\n"
            "http.server.HTTPServer(('127.0.0.1', 9470), http.server.SimpleHTTPRequestHandler).serve_forever()\n"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], cwd=WORK / "log", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def ask_from(self, source):
        subprocess.run(["ip", "address", "replace", f"{source}/32", "dev", "lo"], check=True)
        connection = http.client.HTTPConnection("127.0.0.1", 9470, timeout=5, source_address=(source, 0))
        connection.request("HEAD", "/")
        connection.getresponse().read()
        connection.close()

    def close(self):
        self.process.kill()
        self.process.wait()


def resident(agent):
    text = pathlib.Path(f"/proc/{agent.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", text)[1]) // 1024


def churn(server, agent, service):
    url = "http://127.0.0.1:9464"

    def objects(kind):
        return metric(fetch(f"{url}/metrics")[1], "leasewarden_identity_objects", source="kubernetes", kind=kind)

    def has(n):
        return lambda: objects("pods") == n

    def seen(source, *wanted):
        """Whether a request from this address counts for this tenant, or, without one, for nobody."""
        def ask():
            before = tenants()
            service.ask_from(source)
            # Counted once the connection is over and its events are in order.
            time.sleep(1.5)
            after = tenants()
            changed = {t for t in after if after[t] != before.get(t)}
            assert changed == set(wanted), f"a request from {source} counts for {changed or 'nobody'}"
            return True
        return ask

    def tenants():
        listed = json.loads(fetch(f"{url}/services")[1])
        return {t["tenant"]: json.dumps(t) for s in listed if s["address"] == "127.0.0.1:9470" for t in s["tenants"]}

    until(60, "the agent is ready and synced", lambda: fetch(f"{url}/readyz")[0] == 200)
    before = resident(agent)
    pool = concurrent.futures.ThreadPoolExecutor(8)
    list(pool.map(lambda n: make_pod(server, f"a{n}", address(n), f"tenant-{n % 20}"), range(1000)))
    until(60, f"1,000 pods are known; {before} MiB before", has(1000))
    say(f"{resident(agent)} MiB with them")
    until(10, "a request from a pod's address is its tenant's", seen(address(7), "tenant-7"))
    # The same addresses again, for other pods of other tenants, while the old ones go.
    list(pool.map(lambda n: remove_pod(server, f"a{n}"), range(1000)))
    list(pool.map(lambda n: make_pod(server, f"b{n}", address(n), f"tenant-{(n + 1) % 20}"), range(1000)))
    until(60, "all replaced, every address used again", has(1000))
    until(10, "the same address is another tenant's now", seen(address(7), "tenant-8"))
    for n in range(100):
        server.call("PATCH", f"/api/v1/namespaces/churn/pods/b{n}",
                    {"metadata": {"labels": {"leasewarden.io/tenant": "moved"}}}, "application/merge-patch+json")
    # A process that runs for two tenants is nobody's for sure; its successor is.
    until(10, "100 labels changed while running: a request from such a pod is nobody's", seen(address(7)))
    remove_pod(server, "b7")
    make_pod(server, "c7", address(7), "moved")
    until(10, "its successor is the new tenant's", seen(address(7), "moved"))
    until(10, "the others' have not changed", seen(address(205), "tenant-6"))
    assert fetch(f"{url}/readyz")[0] == 200

    (WORK / "away").touch()
    until(30, "the API server is gone", lambda: (WORK / "gone").exists())

    def stale():
        return metric(fetch(f"{url}/metrics")[1], "leasewarden_identity_stale", source="kubernetes") == 1

    until(60, "said to be stale", stale)
    status, text = fetch(f"{url}/readyz")
    assert status == 200 and "kubernetes" in json.dumps(json.loads(text)["stale"]), (status, text)
    assert objects("pods") == 1000, "the last known state is kept"
    until(10, "the last known state still answers", seen(address(7), "moved"))
    (WORK / "away").unlink()
    until(120, "the API server is back, and nothing is stale", lambda: not stale())
    list(pool.map(lambda n: remove_pod(server, f"b{n}" if n != 7 else "c7"), range(1000)))
    until(60, "all pods gone, and forgotten", has(0))
    say(f"{resident(agent)} MiB at the end")


def main():
    try:
        {"node": node, "api": api}[sys.argv[1]]()
    except Exception as error:
        print(f"    FAILED: {type(error).__name__}: {error}")
        if sys.argv[1] == "node":
            say_why_not()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
