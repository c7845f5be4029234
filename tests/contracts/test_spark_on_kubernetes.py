"""The pods that Spark's driver asks Kubernetes for, as it sends them: valid, and nothing that `restricted` forbids."""

from __future__ import annotations

import subprocess
from pathlib import Path

import kubernetes_validate
import pytest

from tests.services.kubernetes_api import running_api_server
from tests.services.workbench import COMMAND, environment, make_home, wait_until
from workbench.runtime.ports import LOOPBACK

VERSIONS = ("1.31", kubernetes_validate.latest_version())
IMAGE = "registry.example.com/spark:4.2.0"


@pytest.fixture
def executor(tmp_path: Path):
    """The executor pod that `workbench spark check kubernetes` has asked for."""
    with running_api_server() as api:
        (tmp_path / "conf").mkdir()
        (tmp_path / "conf" / "kubernetes.conf").write_text(f"spark.driver.host {LOOPBACK}\n")
        variables = {
            "SPARK_MASTER_URL": f"k8s://{api.url}",
            "SPARK_DRIVER_MEMORY": "512m",
            "SPARK_EXECUTOR_MEMORY": "3g",
            "WORKBENCH_SPARK_CONF_FOLDER": str(tmp_path / "conf"),
            "WORKBENCH_SPARK_KUBERNETES_IMAGE": IMAGE,
            "WORKBENCH_SPARK_KUBERNETES_NAMESPACE": "analytics",
            "WORKBENCH_SPARK_PYTHON": "/opt/venv/bin/python",
            "KUBECONFIG": str(tmp_path / "none"),
        }
        home = make_home(tmp_path)
        process = subprocess.Popen(
            [COMMAND, "spark", "check"], env=environment(home, **variables), cwd=home,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            wait_until(lambda: api.of_kind("Pod") or process.poll() is not None, 90, "a pod")
        finally:
            process.terminate()
            process.wait(60)
        pods = api.of_kind("Pod")
        assert pods, api.sent
        assert all("/namespaces/analytics/" in path for path in api.paths)
        yield pods[0]


def test_executor_pods_are_valid_and_restricted(executor):
    for version in VERSIONS:
        kubernetes_validate.validate(executor, version, strict=True)

    (container,) = executor["spec"]["containers"]
    assert container["image"] == IMAGE
    assert container["resources"]["requests"]["cpu"] == "2"
    assert executor["spec"]["automountServiceAccountToken"] is False
    assert executor["spec"]["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert not executor["spec"].get("hostNetwork")
    assert not any("hostPath" in volume for volume in executor["spec"].get("volumes", []))
