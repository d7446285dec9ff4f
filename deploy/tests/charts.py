"""Tests of the chart and the manifests made from it; `--write` writes the manifests, `--package` what a release has: the
chart's archive and the manifests, the dashboards' too.

    charts.py [--write | --package FOLDER]

Needs no cluster: the real Helm engine works against a scripted API server.
"""

import gzip
import hashlib
import io
import json
import pathlib
import re
import sys
import tarfile
import tempfile
import time
import tomllib

import kubernetes_validate
import yaml

import helm
from scripted_api import ScriptedApi

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
MANIFESTS = ROOT / "deploy" / "manifests"
# Every schema that the package has, oldest to newest.
VERSIONS = [f"1.{minor}" for minor in range(25, 38)]
OPERATOR_KINDS = ("PodMonitor", "PrometheusRule")

EVERYTHING = {
    "image": {"digest": "sha256:" + "0" * 64},
    "imagePullSecrets": [{"name": "registry"}],
    "commonLabels": {"team": "platform"},
    "podLabels": {"x": "y"},
    "podAnnotations": {"a": "b"},
    "config": {"identity": {"patterns": ["tenant-{tenant}"]}, "export": {"listen": "0.0.0.0:9998", "findings": "/dev/stdout"}},
    "port": 9999,
    "env": [{"name": "A", "value": "b"}],
    "extraVolumes": [{"name": "keys", "secret": {"secretName": "keys"}}],
    "extraVolumeMounts": [{"name": "keys", "mountPath": "/keys", "readOnly": True}],
    "runtimeSockets": ["/run/docker.sock"],
    "securityContext": {"oldKernels": True, "seccompProfile": {"type": "RuntimeDefault"}},
    "affinity": {"nodeAffinity": {}},
    "priorityClass": {"create": False, "name": "system-node-critical"},
    "serviceAccount": {"annotations": {"k": "v"}},
    "networkPolicy": {"namespaces": ["monitoring", "prometheus"]},
    "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}, "cluster": "east",
                   "relabelings": [{"targetLabel": "region", "replacement": "eu"}],
                   "metricRelabelings": [{"action": "drop", "regex": "leasewarden_bpf_.*", "sourceLabels": ["__name__"]}]},
    "livenessProbe": {"periodSeconds": 33},
    "readinessProbe": None,
    "startupProbe": {"httpGet": {"path": "/healthz", "port": "http"}, "failureThreshold": 30},
    "dnsPolicy": "Default",
    "dnsConfig": {"options": [{"name": "ndots", "value": "1"}]},
    "runbooks": "https://wiki.example.com/leasewarden",
    "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
    "scrapeAnnotations": True,
    "dashboards": {"namespace": "monitoring"},
}
LITTLE = {
    "serviceAccount": {"create": False, "name": "given"},
    "rbac": {"create": False},
    "priorityClass": {"create": False},
    "networkPolicy": {"create": False},
    "podMonitor": {"enabled": False},
    "prometheusRule": {"enabled": False},
    "dashboards": {"enabled": False},
}
# Values that must be refused, and a word of the reason.
REFUSED = [
    ({"imagee": {}}, "imagee"),
    ({"port": 80}, "port"),
    ({"config": {"export": {"tls": {"certificate": "/tls.crt"}}}}, "key"),
    ({"openshift": {"scc": "yes"}}, "scc"),
    ({"port": "9464"}, "port"),
    ({"config": {"identiti": {}}}, "identiti"),
    # The agent would refuse these, too; on the node, one after the other.
    ({"config": {"limits": {"flowz": 5}}}, "flowz"),
    ({"config": {"limits": {"flows": "many"}}}, "flows"),
    ({"config": {"limits": {"flows": 1}}}, "flows"),
    ({"config": {"identity": {"kubernetes": {"tenant": [{"pod_labl": "x"}]}}}}, "pod_labl"),
    ({"config": {"services": [{"name": "a", "match": {"port": "http"}}]}}, "port"),
    ({"config": {"services": [{"name": "a", "match": {"port": 1}, "protocol": "postgress"}]}}, "protocol"),
    ({"config": {"suppress": [{"rule": "r", "untill": "2030-01-01"}]}}, "untill"),
    ({"config": {"rules": {"pool-stale-binding": {"severity": "worst"}}}}, "severity"),
    ({"config": {"export": {"otlp": {"endpoint": "http://c", "headers": {"a": {"fil": "x"}}}}}}, "fil"),
    ({"config": {"version": 2}}, "version"),
    ({"livenessProbe": "no"}, "livenessProbe"),
    ({"dnsPolicy": "default"}, "dnsPolicy"),
    ({"runbooks": "docs/runbooks.md"}, "runbooks"),
    ({"podMonitor": {"relabelings": {"targetLabel": "x"}}}, "relabelings"),
    ({"securityContext": {"capabilities": ["ALL"]}}, "capabilities"),
    ({"securityContext": {"privileged": True}}, "privileged"),
    ({"podMonitor": {"enabled": "yes"}}, "enabled"),
    ({"runtimeSockets": ["docker.sock"]}, "runtimeSockets"),
    ({"image": {"digest": "latest"}}, "digest"),
]


def render(values=None, operator=False, openshift=False):
    """What the engine makes of the chart: (documents, notes)."""
    api = ScriptedApi(operator=operator, openshift=openshift)
    try:
        helm.install(api.kubeconfig(), values)
        release = helm.newest_release(api)
    finally:
        api.close()
    return helm.documents(release["manifest"]), release["info"].get("notes", "")


def one(documents, kind):
    found = [d for d in documents if d["kind"] == kind]
    assert len(found) == 1, f"{len(found)} of {kind}"
    return found[0]


def kinds(documents):
    return sorted({d["kind"] for d in documents})


def test_lint():
    result = helm.lint()
    messages = [m for m in result.get("messages") or [] if "icon is recommended" not in json.dumps(m)]
    bad = [m for m in messages if "found symbolic link" not in json.dumps(m)]
    assert not result.get("errors") and not bad, result


def test_versions_are_those_of_the_workspace():
    version = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    chart = yaml.safe_load((ROOT / "deploy/helm/leasewarden/Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == version, (chart["version"], chart["appVersion"], version)


def test_the_package_is_whole():
    with tempfile.TemporaryDirectory() as folder:
        archive = helm.package(folder)
        with tarfile.open(archive) as tar:
            names = {n.removeprefix("leasewarden/") for n in tar.getnames()}
    wanted = {"Chart.yaml", "values.yaml", "values.schema.json", "templates/daemonset.yaml"}
    wanted |= {f"files/dashboards/{f.name}" for f in (ROOT / "dashboards").iterdir() if f.suffix in (".json", ".yaml")}
    assert wanted <= names, f"not in the package: {sorted(wanted - names)}"
    strangers = {n for n in names if n.startswith("files/") and n not in wanted}
    assert not strangers, strangers


def test_defaults_name_what_the_agent_needs_and_no_more():
    documents, notes = render()
    assert kinds(documents) == ["ClusterRole", "ClusterRoleBinding", "ConfigMap", "DaemonSet", "NetworkPolicy",
                                "PriorityClass", "ServiceAccount"], kinds(documents)
    pod = one(documents, "DaemonSet")["spec"]["template"]["spec"]
    assert not pod["hostPID"] and not pod["hostNetwork"] and "hostIPC" not in pod
    (agent,) = pod["containers"]
    security = agent["securityContext"]
    assert security["privileged"] is False and security["allowPrivilegeEscalation"] is False
    assert security["readOnlyRootFilesystem"] is True
    assert security["capabilities"] == {"drop": ["ALL"], "add": ["BPF", "NET_ADMIN", "PERFMON", "DAC_READ_SEARCH"]}
    paths = [v["hostPath"]["path"] for v in pod["volumes"] if "hostPath" in v]
    assert paths == ["/sys/fs/cgroup"], paths
    assert all(m["readOnly"] for m in agent["volumeMounts"])
    assert {e["name"] for e in agent["env"]} == {"NODE_NAME", "RUST_LOG"}
    assert agent["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert agent["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert "no Prometheus operator" in notes, notes


def test_reading_tls_is_switched_on_by_name_and_adds_what_it_needs():
    config = {"tls": {"workloads": ["tool-*"]}}
    off = one(render({"config": config})[0], "DaemonSet")["spec"]["template"]["spec"]
    assert not off["hostPID"] and "SYS_PTRACE" not in off["containers"][0]["securityContext"]["capabilities"]["add"]
    documents, _ = render({"tls": {"enabled": True}, "config": config}, openshift=True)
    pod = one(documents, "DaemonSet")["spec"]["template"]["spec"]
    assert pod["hostPID"] is True and not pod["hostNetwork"]
    assert pod["containers"][0]["securityContext"]["capabilities"]["add"][-2:] == ["SYS_PTRACE", "SYS_ADMIN"]
    assert yaml.safe_load(config_of(documents))["tls"] == {"enabled": True, "workloads": ["tool-*"]}
    scc = one(documents, "SecurityContextConstraints")
    assert scc["allowHostPID"] is True and scc["allowedCapabilities"][-2:] == ["SYS_PTRACE", "SYS_ADMIN"]


def test_rbac_reads_four_kinds_and_writes_nothing():
    rules = one(render()[0], "ClusterRole")["rules"]
    assert {v for r in rules for v in r["verbs"]} == {"get", "list", "watch"}
    assert sorted(x for r in rules for x in r["resources"]) == ["endpointslices", "namespaces", "pods", "services"]


def test_everything_at_once():
    documents, _ = render(EVERYTHING, operator=True)
    daemon = one(documents, "DaemonSet")
    agent = daemon["spec"]["template"]["spec"]["containers"][0]
    assert agent["image"].endswith("@sha256:" + "0" * 64)
    assert agent["securityContext"]["capabilities"]["add"][-1] == "SYS_RESOURCE"
    assert agent["ports"][0]["containerPort"] == 9998, "where it is listened is the configuration's to say"
    config = yaml.safe_load(config_of(documents))
    assert config["version"] == 1
    assert config["export"] == {"listen": "0.0.0.0:9998", "findings": "/dev/stdout"}, config
    assert config["identity"] == {"patterns": ["tenant-{tenant}"]}
    assert one(documents, "NetworkPolicy")["spec"]["ingress"][0]["ports"][0]["port"] == 9998
    assert one(documents, "PodMonitor")["metadata"]["labels"]["release"] == "prometheus"
    endpoint = one(documents, "PodMonitor")["spec"]["podMetricsEndpoints"][0]
    assert {"targetLabel": "cluster", "replacement": "east"} in endpoint["relabelings"]
    assert {"targetLabel": "region", "replacement": "eu"} == endpoint["relabelings"][-1]
    assert endpoint["metricRelabelings"][0]["regex"] == "leasewarden_bpf_.*"
    assert agent["livenessProbe"]["periodSeconds"] == 33 and agent["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert "readinessProbe" not in agent and agent["startupProbe"]["failureThreshold"] == 30
    pod = daemon["spec"]["template"]["spec"]
    assert pod["dnsPolicy"] == "Default" and pod["dnsConfig"]["options"][0]["name"] == "ndots"


def test_runbooks_are_where_the_values_say():
    ours = "https://github.com/leasewarden/leasewarden/blob/main/docs/runbooks.md"
    for values, base in ((None, ours), ({"runbooks": "https://wiki.example.com/lw"}, "https://wiki.example.com/lw")):
        documents, _ = render(values, operator=True)
        rules = [r for d in documents if d["kind"] == "PrometheusRule" for g in d["spec"]["groups"] for r in g["rules"]]
        alerts = [r for r in rules if "alert" in r]
        for alert in alerts:
            assert alert["annotations"]["runbook_url"] == f"{base}#{alert['alert'].lower()}", alert
        assert len(alerts) > 5
        texts = [t for d in documents if d["kind"] == "ConfigMap" for t in d["data"].values()]
        assert base == ours or not any(ours in t for t in texts)
        assert any(f"{base}#" in t for t in texts), "a dashboard leads to the runbooks"


def test_a_cluster_is_named_only_by_whoever_has_several():
    documents, _ = render(operator=True)
    labels = {r["targetLabel"] for r in one(documents, "PodMonitor")["spec"]["podMetricsEndpoints"][0]["relabelings"]}
    assert labels == {"node"}, "a label of the scrape would beat an external label"


def test_notes_name_the_label_that_pod_security_wants():
    for values in (None, EVERYTHING):
        notes = render(values, operator=True)[1]
        assert "kubectl label namespace leasewarden pod-security.kubernetes.io/enforce=privileged" in notes, notes


def test_configurations_of_the_documentation_are_accepted():
    files = sorted((ROOT / "docs" / "examples").glob("*.yaml"))
    assert files
    for file in files:
        render({"config": yaml.safe_load(file.read_text())})


def test_every_value_is_in_the_readme():
    names = set(yaml.safe_load((ROOT / "deploy/helm/leasewarden/values.yaml").read_text()))
    text = (ROOT / "deploy/helm/leasewarden/README.md").read_text()
    unnamed = {n for n in names if f"`{n}" not in text} - {"nameOverride", "fullnameOverride", "commonLabels", "podLabels",
                                                           "podAnnotations", "scrapeAnnotations", "minReadySeconds",
                                                           "terminationGracePeriodSeconds"}
    assert not unnamed, unnamed


def agent_of(documents):
    return one(documents, "DaemonSet")["spec"]["template"]["spec"]["containers"][0]


def test_it_listens_where_the_configuration_says():
    def of(listen, **more):
        values = {"config": {"export": {**({"listen": listen} if listen else {}), **more}}, "service": {"create": True},
                  "scrapeAnnotations": True}
        return render(values, operator=True)

    # Nothing said: both families, so that clusters of IPv6 alone work.
    for listen, port in ((None, 9464), ("[::]:9000", 9000), ("0.0.0.0:9001", 9001), ("10.0.0.7:9002", 9002)):
        documents, notes = of(listen)
        export = yaml.safe_load(config_of(documents))["export"]
        assert export["listen"] == (listen or "[::]:9464"), export
        agent = agent_of(documents)
        assert agent["ports"] == [{"name": "http", "containerPort": port, "protocol": "TCP"}]
        for probe in ("livenessProbe", "readinessProbe"):
            # No host and no family: kubelet asks the pod's address, whichever it is.
            assert agent[probe]["httpGet"]["port"] == "http" and set(agent[probe]["httpGet"]) == {"path", "port"}, agent[probe]
        service = one(documents, "Service")["spec"]
        assert (service["ipFamilyPolicy"], service["clusterIP"], service["ports"][0]["port"]) == ("PreferDualStack", "None", port)
        assert one(documents, "NetworkPolicy")["spec"]["ingress"][0]["ports"] == [{"port": port, "protocol": "TCP"}]
        meta = one(documents, "DaemonSet")["spec"]["template"]["metadata"]
        assert meta["annotations"]["prometheus.io/port"] == str(port)
        assert f"port-forward daemonset/leasewarden {port}" in notes, notes
    # What nobody outside of the pod reaches is neither probed nor scraped.
    for listen in ("127.0.0.1:9464", "[::1]:9464", "off"):
        documents, notes = of(listen)
        agent = agent_of(documents)
        assert not {"livenessProbe", "readinessProbe"} & set(agent), agent
        assert not {"Service", "PodMonitor"} & set(kinds(documents)), kinds(documents)
        assert one(documents, "NetworkPolicy")["spec"]["ingress"] == []
        assert ("ports" in agent) == (listen != "off") and "nobody outside of the pod" in notes, notes


def test_with_tls_everybody_asks_in_tls():
    tls = {"certificate": "/tls/tls.crt", "key": "/tls/tls.key"}
    documents, _ = render({"config": {"export": {"tls": tls}}, "scrapeAnnotations": True}, operator=True)
    agent = agent_of(documents)
    assert {agent[p]["httpGet"]["scheme"] for p in ("livenessProbe", "readinessProbe")} == {"HTTPS"}
    endpoint = one(documents, "PodMonitor")["spec"]["podMetricsEndpoints"][0]
    assert (endpoint["scheme"], endpoint["tlsConfig"]) == ("https", {"insecureSkipVerify": True})
    meta = one(documents, "DaemonSet")["spec"]["template"]["metadata"]
    assert meta["annotations"]["prometheus.io/scheme"] == "https"


def test_security_of_openshift_and_selinux():
    assert "SecurityContextConstraints" not in kinds(render()[0])
    assert "SecurityContextConstraints" not in kinds(render({"openshift": {"scc": False}}, openshift=True)[0])
    values = {"securityContext": {"seLinuxOptions": {"type": "spc_t"},
              "seccompProfile": {"type": "Localhost", "localhostProfile": "profiles/leasewarden.json"}}}
    documents, _ = render(values, openshift=True)
    agent = agent_of(documents)["securityContext"]
    assert agent["seLinuxOptions"] == {"type": "spc_t"}
    assert agent["seccompProfile"] == {"type": "Localhost", "localhostProfile": "profiles/leasewarden.json"}
    scc = one(documents, "SecurityContextConstraints")
    assert scc["allowedCapabilities"] == agent["capabilities"]["add"]
    assert scc["users"] == ["system:serviceaccount:leasewarden:leasewarden"]
    assert scc["seccompProfiles"] == ["localhost/profiles/leasewarden.json"]
    allowed = [k for k, v in scc.items() if k.startswith("allow") and v is True]
    assert allowed == ["allowHostDirVolumePlugin"], allowed


def test_the_profile_of_runtimes_allows_what_it_must_only():
    profile = json.loads((ROOT / "deploy/seccomp/leasewarden.json").read_text())
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    names = {n for rule in profile["syscalls"] if rule["action"] == "SCMP_ACT_ALLOW" for n in rule["names"]}
    assert {"bpf", "execve", "seccomp", "open_by_handle_at"} <= names
    assert not names & {"ptrace", "mount", "umount2", "unshare", "setns", "init_module", "finit_module", "keyctl"}, names


def config_of(documents):
    maps = [d for d in documents if d["kind"] == "ConfigMap" and "config.yaml" in d["data"]]
    assert len(maps) == 1
    return maps[0]["data"]["config.yaml"]


def test_little():
    documents, _ = render(LITTLE)
    assert kinds(documents) == ["ConfigMap", "DaemonSet"], kinds(documents)
    pod = one(documents, "DaemonSet")["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == "given" and "priorityClassName" not in pod


def test_the_operators_kinds_are_made_where_there_is_an_operator():
    documents, notes = render(operator=True)
    assert "PodMonitor" in kinds(documents)
    assert "No PodMonitor" not in notes
    rules = [d for d in documents if d["kind"] == "PrometheusRule"]
    files = [f for f in ("alerts", "rules") if (ROOT / "dashboards" / f"{f}.yaml").exists()]
    assert len(rules) == len(files), (len(rules), files)
    for rule, file in zip(sorted(rules, key=lambda r: r["metadata"]["name"]), files):
        # As they stand in the file: the chart's engine must not read their own templates.
        assert rule["spec"] == yaml.safe_load((ROOT / "dashboards" / f"{file}.yaml").read_text())


def test_dashboards_arrive_as_they_are():
    documents, _ = render()
    label = [d for d in documents if d["metadata"].get("labels", {}).get("grafana_dashboard") == "1"]
    files = sorted((ROOT / "dashboards").glob("*.json"))
    assert len(label) == len(files), (len(label), files)
    for file in files:
        texts = [d["data"][file.name] for d in label if file.name in d["data"]]
        assert len(texts) == 1 and json.loads(texts[0]) == json.loads(file.read_text()), file
        assert len(texts[0]) < 900_000, f"{file}: too large for a ConfigMap"


def test_bad_values_are_refused():
    for values, word in REFUSED:
        try:
            render(values)
        except Exception as error:
            assert word in str(error), f"{values}: {error}"
        else:
            raise AssertionError(f"accepted: {values}")


def test_sections_of_the_configuration_are_those_of_the_agent():
    agent = json.loads((ROOT / "docs" / "config.schema.json").read_text())["properties"]
    chart = json.loads((ROOT / "deploy/helm/leasewarden/values.schema.json").read_text())
    names = set(chart["properties"]["config"]["properties"])
    assert names == set(agent), f"values.schema.json, config: {sorted(names ^ set(agent))}"


def test_a_new_configuration_means_new_pods():
    api = ScriptedApi()
    try:
        helm.install(api.kubeconfig())
        first = helm.documents(helm.newest_release(api)["manifest"])
        helm.upgrade(api.kubeconfig(), {"config": {"limits": {"tenants": 50}}})
        release = helm.newest_release(api)
        second = helm.documents(release["manifest"])
        assert release["version"] == 2
        live = [o for o in api.kept("DaemonSet")]
    finally:
        api.close()

    def stamp(daemon):
        return daemon["spec"]["template"]["metadata"]["annotations"]["leasewarden.io/config-sha256"]

    assert stamp(one(first, "DaemonSet")) != stamp(one(second, "DaemonSet"))
    assert stamp(live[0]) == stamp(one(second, "DaemonSet")), "the upgrade reached the cluster"
    assert yaml.safe_load(config_of(second))["limits"] == {"tenants": 50}


def test_schemas_of_kubernetes():
    n = 0
    for values in (None, EVERYTHING, LITTLE):
        for document in render(values, operator=True)[0]:
            if document["kind"] in OPERATOR_KINDS:
                continue
            for version in VERSIONS:
                kubernetes_validate.validate(document, version, strict=True)
                n += 1
    try:
        kubernetes_validate.validate({"apiVersion": "v1", "kind": "ConfigMap", "dataa": {}}, VERSIONS[-1], strict=True)
    except kubernetes_validate.ValidationError:
        pass
    else:
        raise AssertionError("the validator accepts anything")
    print(f"      {n} validations, Kubernetes {VERSIONS[0]} to {VERSIONS[-1]}")


def package(folder):
    """The chart's archive, the same bytes each time: Helm's engine writes the present time into it."""
    with tempfile.TemporaryDirectory() as made:
        archive = pathlib.Path(helm.package(made))
        with tarfile.open(archive) as tar:
            files = sorted((m.name, tar.extractfile(m).read()) for m in tar.getmembers() if m.isfile())
    out = pathlib.Path(folder) / archive.name
    with open(out, "wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as packed:
        with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for name, content in files:
                info = tarfile.TarInfo(name)
                info.size, info.mode = len(content), 0o644
                tar.addfile(info, io.BytesIO(content))
    return out


def test_the_package_is_the_same_each_time():
    digests = set()
    for _ in range(2):
        with tempfile.TemporaryDirectory() as folder:
            digests.add(hashlib.sha256(package(folder).read_bytes()).hexdigest())
        time.sleep(1.1)
    assert len(digests) == 1, digests
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(package(folder)) as tar:
            assert {(m.mtime, m.uid, m.mode) for m in tar.getmembers()} == {(0, 0, 0o644)}
            assert any(m.name == "leasewarden/README.md" for m in tar.getmembers())


NAMESPACE = """\
apiVersion: v1
kind: Namespace
metadata:
  name: leasewarden
  labels:
    # Host paths and capabilities are what this namespace is for.
    pod-security.kubernetes.io/enforce: privileged
    pod-security.kubernetes.io/warn: privileged
"""


class Dumper(yaml.SafeDumper):
    """Texts of several lines as they are, so that a change of one line is a change of one line."""


Dumper.add_representer(str, lambda dumper, text: dumper.represent_scalar(
    "tag:yaml.org,2002:str", text, style="|" if "\n" in text else None))


def manifests():
    """File name -> text: the chart with its default values, without Helm's labels."""
    files = {"leasewarden.yaml": [NAMESPACE.strip()], "monitoring.yaml": [], "dashboards.yaml": []}
    for document in render(operator=True)[0]:
        unlabel(document)
        text = yaml.dump(document, Dumper=Dumper, sort_keys=False, width=118).strip()
        if document["kind"] in OPERATOR_KINDS:
            files["monitoring.yaml"].append(text)
        elif "grafana_dashboard" in document["metadata"].get("labels", {}):
            files["dashboards.yaml"].append(text)
        else:
            files["leasewarden.yaml"].append(text)
    head = "# Made from deploy/helm/leasewarden by `cargo xtask charts --write`; edit the chart instead.\n---\n"
    return {name: head + "\n---\n".join(texts) + "\n" for name, texts in files.items() if texts}


def kept_manifests():
    """Those in the repository: not the dashboards', which would only repeat `dashboards/`."""
    return {name: text for name, text in manifests().items() if name != "dashboards.yaml"}


def unlabel(node):
    """Takes out what only Helm knows."""
    if isinstance(node, dict):
        labels = node.get("labels")
        if isinstance(labels, dict):
            labels.pop("helm.sh/chart", None)
            labels.pop("app.kubernetes.io/managed-by", None)
        for value in node.values():
            unlabel(value)
    elif isinstance(node, list):
        for value in node:
            unlabel(value)


def test_manifests_are_those_of_the_chart():
    wanted = kept_manifests()
    there = {p.name: p.read_text() for p in MANIFESTS.glob("*.yaml")}
    stale = sorted(n for n in wanted.keys() | there.keys() if wanted.get(n) != there.get(n))
    assert not stale, f"deploy/manifests: {', '.join(stale)} not up to date; next: cargo xtask charts --write"
    for text in wanted.values():
        assert not re.search(r"[Hh]elm(?!/)", text), "Helm is mentioned in plain manifests"


def main():
    if "--write" in sys.argv[1:]:
        MANIFESTS.mkdir(exist_ok=True)
        files = kept_manifests()
        for old in MANIFESTS.glob("*.yaml"):
            if old.name not in files:
                old.unlink()
        for name, text in files.items():
            (MANIFESTS / name).write_text(text)
            print(f"deploy/manifests/{name}")
        return 0
    if "--package" in sys.argv[1:]:
        folder = pathlib.Path(sys.argv[-1])
        package(folder)
        for name, text in manifests().items():
            (folder / name).write_text(text)
        return 0
    failed = []
    for name, test in [(n, f) for n, f in globals().items() if n.startswith("test_")]:
        try:
            test()
            print(f"ok    {name}")
        except Exception as error:
            failed.append(name)
            print(f"FAIL  {name}: {type(error).__name__}: {str(error)[:2000]}")
    print(f"charts: {len(failed)} failed" if failed else "charts: all ok")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
