"""The real Helm engine: lint, install, upgrade, uninstall, and what a release rendered."""

import asyncio
import base64
import gzip
import json
import pathlib

import helm_sdkpy
import yaml

CHART = str(pathlib.Path(__file__).resolve().parent.parent / "helm" / "leasewarden")
RELEASE = "leasewarden"


def lint():
    config = helm_sdkpy.Configuration()
    return asyncio.run(helm_sdkpy.Lint(config).run(CHART))


def package(folder):
    return asyncio.run(helm_sdkpy.Package(helm_sdkpy.Configuration()).run(CHART, dest_dir=str(folder)))


def install(kubeconfig, values=None, namespace="leasewarden", wait=False, timeout=300, **more):
    config = helm_sdkpy.Configuration(namespace=namespace, kubeconfig=kubeconfig)
    run = helm_sdkpy.Install(config).run(
        RELEASE, CHART, values=values or {}, create_namespace=True, wait=wait, timeout=timeout, **more)
    return asyncio.run(run)


def upgrade(kubeconfig, values=None, namespace="leasewarden", wait=False, timeout=300, **more):
    config = helm_sdkpy.Configuration(namespace=namespace, kubeconfig=kubeconfig)
    run = helm_sdkpy.Upgrade(config).run(RELEASE, CHART, values=values or {}, wait=wait, timeout=timeout, **more)
    return asyncio.run(run)


def uninstall(kubeconfig, namespace="leasewarden"):
    config = helm_sdkpy.Configuration(namespace=namespace, kubeconfig=kubeconfig)
    return asyncio.run(helm_sdkpy.Uninstall(config).run(RELEASE, wait=False))


def release_of(secret):
    """The release record in one of the engine's Secrets: base64 by Kubernetes, base64 and gzip by Helm."""
    return json.loads(gzip.decompress(base64.b64decode(base64.b64decode(secret["data"]["release"]))))


def newest_release(api):
    """The newest release that the scripted API server keeps."""
    releases = [release_of(s) for s in api.kept("Secret") if s.get("type") == "helm.sh/release.v1"]
    return max(releases, key=lambda r: r["version"])


def documents(text):
    return [d for d in yaml.safe_load_all(text) if d]
