"""Writes the pod of the chart's DaemonSet as a static pod: `guest_pod.py POD CONFIGURATION`, for a kubelet without an API server.

As the chart renders it, but for what a static pod cannot have (a service account, a priority class, a ConfigMap: its
configuration is in the host's /lab/agent) and for the network, which is the host's where there is none for pods.
"""

import json
import sys

import charts
import yaml

values = {
    "image": {"repository": "leasewarden.io/lab/leasewarden", "tag": "test", "pullPolicy": "Never"},
    "config": {"identity": {"kubernetes": {"enabled": "off"}}},
}
documents, _ = charts.render(values)
template = charts.one(documents, "DaemonSet")["spec"]["template"]
spec = template["spec"]
for key in ("serviceAccountName", "priorityClassName", "nodeSelector"):
    spec.pop(key)
spec["hostNetwork"] = True
spec["automountServiceAccountToken"] = False
for volume in spec["volumes"]:
    if volume["name"] == "config":
        volume.pop("configMap")
        volume["hostPath"] = {"path": "/lab/agent"}
pod = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "leasewarden", "namespace": "default", "labels": template["metadata"]["labels"]},
    "spec": spec,
}
with open(sys.argv[1], "w") as file:
    json.dump(pod, file)
with open(sys.argv[2], "w") as file:
    file.write(yaml.dump(yaml.safe_load(charts.config_of(documents))))
