"""What we send to Kubernetes is what its schemas and its pod security standard ask for: pods, volumes, deploy/kubernetes."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import kubernetes_asyncio.config.kube_config as kubeconfig
import kubernetes_validate
import pytest
import yaml
from kubernetes_asyncio.client import ApiClient
from kubespawner import KubeSpawner
from traitlets.config import Config

from hub.spawning.clusters import set_kubernetes
from hub.spawning.kubernetes import HUB_API
from tests.services.hub_user import hub_user
from workbench.settings import Settings

DEPLOY = Path(__file__).parents[2] / "deploy" / "kubernetes"
VERSIONS = ("1.31", kubernetes_validate.latest_version())
LABEL = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")
NAME = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
PASSWORD = "pass-{word}-$(HOME)-'\"\\"
HOSTILE = [
    "gh-octo",
    "../../etc/passwd",
    "gh-octo'; rm -rf / #",
    "{pod_name}{namespace}",
    "$(JUPYTERHUB_API_TOKEN)",
    "kube-system--x",
    "ÄÖ @example.com",
    "-",
    "a" * 250,
]
SETTINGS = {
    "KAFKA_BROKERS": "kafka.example.com:9093",
    "KAFKA_USERNAME": "ada",
    "KAFKA_PASSWORD": PASSWORD,
    "DW_HOST": "warehouse.example.com",
    "DW_USER": "ada {x} $(HOME)",
    "DW_PASSWORD": PASSWORD,
    "WORKBENCH_HUB_SPAWNER": "kubernetes",
    "WORKBENCH_HUB_KUBERNETES_IMAGE": "registry.example.com/workbench:0.1.0",
    "WORKBENCH_HUB_KUBERNETES_STORAGE": "20g",
    "WORKBENCH_HUB_MEMORY_LIMITS": "analyst=4g,engineer=8g",
    "WORKBENCH_HUB_CPU_LIMITS": "analyst=1.5",
}
KUBECONFIG = """\
apiVersion: v1
kind: Config
clusters: [{name: none, cluster: {server: "https://127.0.0.1:1"}}]
contexts: [{name: none, context: {cluster: none, user: none}}]
users: [{name: none, user: {}}]
current-context: none
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    file = tmp_path / "kubeconfig"
    file.write_text(KUBECONFIG)
    monkeypatch.setattr(kubeconfig, "KUBE_CONFIG_DEFAULT_LOCATION", str(file))
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "home"))
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    c = Config()
    set_kubernetes(c, Settings.load())
    return c


def manifests(c: Config, name: str, role: str = "analyst") -> tuple[dict[str, Any], dict[str, Any]]:
    """The pod and the volume claim that would be sent for a user."""

    async def make() -> tuple[dict[str, Any], dict[str, Any]]:
        with hub_user(c, name, role, spawner_class=KubeSpawner) as user:
            spawner = user.spawners[""]
            spawner.run_pre_spawn_hook()
            async with ApiClient() as client:
                pod = client.sanitize_for_serialization(await spawner.get_pod_manifest())
                return pod, client.sanitize_for_serialization(spawner.get_pvc_manifest())

    return asyncio.run(make())


def documents() -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{path.stem}-{each['kind']}-{each['metadata']['name']}", each)
        for path in sorted(DEPLOY.glob("*.yaml"))
        for each in yaml.safe_load_all(path.read_text())
    ]


def find(kind: str, name: str) -> dict[str, Any]:
    return next(each for _, each in documents() if (each["kind"], each["metadata"]["name"]) == (kind, name))


def assert_restricted(spec: dict[str, Any]) -> None:
    """The profile `restricted` of the pod security standards, control by control."""
    context = spec["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers", "ephemeralContainers"} & set(spec)
    kinds = {kind for volume in spec["volumes"] for kind in volume if kind != "name"}
    assert kinds <= {"emptyDir", "secret", "persistentVolumeClaim"}
    for container in spec["containers"]:
        own = container["securityContext"]
        assert own["allowPrivilegeEscalation"] is False
        assert own["capabilities"] == {"drop": ["ALL"]}
        assert not own.get("privileged")
        assert own.get("runAsUser", context.get("runAsUser")) == 1000
        assert not any("hostPort" in port for port in container["ports"])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("label", "document"), documents(), ids=[label for label, _ in documents()])
def test_what_is_deployed_fits_the_schemas(label, document, version):
    kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize("name", HOSTILE)
def test_whatever_a_user_is_called_the_manifests_fit_the_schemas(config, name):
    pod, claim = manifests(config, name)

    for manifest in (pod, claim):
        for version in VERSIONS:
            kubernetes_validate.validate(manifest, version, strict=True)
        assert NAME.fullmatch(manifest["metadata"]["name"])
        assert all(LABEL.fullmatch(value) for value in manifest["metadata"]["labels"].values())


def test_no_two_users_share_a_pod_or_a_volume(config):
    names = [*HOSTILE, "gh-Octo", "gh.octo", "gh-octo-", "a" * 249, "kube-system-x"]

    made = [manifests(config, name) for name in names]

    assert len({pod["metadata"]["name"] for pod, _ in made}) == len(names)
    assert len({claim["metadata"]["name"] for _, claim in made}) == len(names)


def test_a_pod_is_restricted(config):
    pod, _ = manifests(config, "gh-octo")

    assert_restricted(pod["spec"])
    container = pod["spec"]["containers"][0]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["runAsGroup"] == 1000
    assert pod["spec"]["securityContext"]["fsGroup"] == 1000


def test_a_pod_has_no_way_to_the_cluster(config):
    spec = manifests(config, "gh-octo")[0]["spec"]

    assert spec["automountServiceAccountToken"] is False
    assert "serviceAccountName" not in spec
    assert spec["enableServiceLinks"] is False


def test_a_pod_mounts_its_own_claim_alone(config):
    pod, claim = manifests(config, "gh-octo")

    claims = [each["persistentVolumeClaim"] for each in pod["spec"]["volumes"] if "persistentVolumeClaim" in each]
    assert claims == [{"claimName": claim["metadata"]["name"]}]
    assert claim["spec"]["resources"]["requests"] == {"storage": "20Gi"}
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]


@pytest.mark.parametrize(
    ("role", "limits"),
    [
        ("analyst", {"memory": 4 * 2**30, "cpu": 1.5}),
        ("engineer", {"memory": 8 * 2**30}),
        ("admin", {}),
    ],
)
def test_each_role_has_its_limits(config, role, limits):
    pod, _ = manifests(config, "gh-octo", role)

    assert pod["spec"]["containers"][0]["resources"].get("limits", {}) == limits
    assert pod["metadata"]["labels"]["workbench/role"] == role


def test_no_secret_of_the_data_is_in_a_pod(config):
    pod, _ = manifests(config, "gh-octo")

    environment = {each["name"]: each for each in pod["spec"]["containers"][0]["env"]}
    assert PASSWORD not in str(pod)
    for name in ("KAFKA_PASSWORD", "DW_PASSWORD"):
        assert environment[name]["valueFrom"]["secretKeyRef"] == {"name": "workbench-data", "key": name}


def test_a_pod_gets_the_way_to_the_data_and_to_the_hub_unchanged(config):
    pod, _ = manifests(config, "gh-octo")

    environment = {each["name"]: each.get("value") for each in pod["spec"]["containers"][0]["env"]}
    assert environment["KAFKA_BROKERS"] == "kafka.example.com:9093"
    # Kubernetes makes $(HOME) of $$(HOME).
    assert environment["DW_USER"] == "ada {x} $$(HOME)"
    assert environment["JUPYTERHUB_API_URL"] == f"{HUB_API}/hub/api"
    assert environment["WORKBENCH_HOME"] == "/workspace/.workbench"
    assert not {"PATH", "KUBECONFIG"} & set(environment)


def test_a_pod_is_not_taken_away_from_who_works(config):
    pod, _ = manifests(config, "gh-octo")

    assert pod["metadata"]["annotations"]["cluster-autoscaler.kubernetes.io/safe-to-evict"] == "false"
    assert pod["spec"]["terminationGracePeriodSeconds"] == 30
    assert config.KubeSpawner.delete_grace_period == 30
    assert config.KubeSpawner.delete_pvc is False
    assert config.JupyterHub.cleanup_servers is False


def test_a_pod_is_ready_when_its_port_answers(config):
    container = manifests(config, "gh-octo")[0]["spec"]["containers"][0]

    assert container["readinessProbe"]["tcpSocket"]["port"] == container["ports"][0]["name"]


def test_the_hub_is_restricted():
    spec = find("Deployment", "hub")["spec"]["template"]["spec"]

    assert_restricted(spec)
    assert spec["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True


def test_both_namespaces_enforce_the_standard():
    for name in ("workbench", "workbench-hub"):
        assert find("Namespace", name)["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_the_hub_may_do_what_it_calls_and_no_more():
    rights = {
        (resource, verb)
        for rule in find("Role", "hub")["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }

    assert find("Role", "hub")["metadata"]["namespace"] == "workbench"
    assert ("pods", "create") in rights
    assert not {each for each in rights if "*" in each or each[0] in ("secrets", "pods/exec", "serviceaccounts")}
    assert ("persistentvolumeclaims", "delete") not in rights
    assert not [each for _, each in documents() if each["kind"].startswith("Cluster")]


def test_users_are_reached_by_the_hub_alone(config):
    pod, _ = manifests(config, "gh-octo")
    policy = find("NetworkPolicy", "users")["spec"]

    selected = policy["podSelector"]["matchLabels"]
    assert selected.items() <= pod["metadata"]["labels"].items()
    (rule,) = policy["ingress"]
    (origin,) = rule["from"]
    hub = find("Deployment", "hub")
    assert origin["podSelector"]["matchLabels"] == hub["spec"]["template"]["metadata"]["labels"]
    assert origin["namespaceSelector"]["matchLabels"] == {
        "kubernetes.io/metadata.name": hub["metadata"]["namespace"],
    }
    assert rule["ports"] == [{"port": pod["spec"]["containers"][0]["ports"][0]["containerPort"]}]


def test_users_reach_no_metadata_of_a_cloud():
    blocks = [
        to["ipBlock"]
        for rule in find("NetworkPolicy", "users")["spec"]["egress"]
        for to in rule["to"]
        if "ipBlock" in to
    ]

    assert blocks
    assert all("169.254.0.0/16" in block["except"] for block in blocks)


def test_pods_find_the_hub_by_the_name_of_its_service():
    service = find("Service", "hub")
    name, namespace = service["metadata"]["name"], service["metadata"]["namespace"]

    assert f"http://{name}.{namespace}.svc.cluster.local:{service['spec']['ports'][0]['port']}" == HUB_API


def test_the_settings_that_are_deployed_are_accepted(tmp_path, monkeypatch):
    given = find("ConfigMap", "workbench")["data"]
    secrets = {
        "OAUTH2_STATE_SECRET": "state",
        "GITHUB_CLIENT_ID": "id",
        "GITHUB_CLIENT_SECRET": "secret",
        "DW_USER": "u",
        "DW_PASSWORD": "p",
    }
    for name, value in {**given, **secrets, "WORKBENCH_HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)

    c = Config()
    set_kubernetes(c, Settings.load())

    assert c.KubeSpawner.image == find("Deployment", "hub")["spec"]["template"]["spec"]["containers"][0]["image"]
    assert c.KubeSpawner.namespace == find("Role", "hub")["metadata"]["namespace"]
