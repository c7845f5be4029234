"""What pipelines compile to for Kubernetes is what its schemas and its pod security standard ask for."""

from __future__ import annotations

import re
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from pipelines.compile import Options, compile_pipelines
from pipelines.definition import Project

VERSIONS = ("1.31", kubernetes_validate.latest_version())
OPTIONS = Options(target="kubernetes", image="registry.example.com/workbench:0.1.0", namespace="workbench")
DEPLOYED = Path(__file__).parents[2] / "deploy" / "kubernetes" / "pipelines.yaml"
LABEL = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")
NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,50}[a-z0-9])?-?")
SCHEDULE = {"cron": "30 2 * * 1-5", "zone": "Europe/Berlin"}
CASES = {
    "by-hand": {},
    "a_b": {"schedule": SCHEDULE},
    "x" * 49 + "9": {"schedule": {**SCHEDULE, "catch_up": "last"}, "concurrency": {"over": "skip"}},
    "0": {"schedule": SCHEDULE, "timeout": "400d", "retention": {"days": 36_500}},
}


@pytest.fixture(scope="module")
def manifests(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    (folder / "pipelines/jobs").mkdir(parents=True)
    (folder / "a.sql").write_text("SELECT 1")
    for name, fields in CASES.items():
        text = yaml.safe_dump({"steps": {"a": {"sql": "a.sql"}}, **fields})
        (folder / f"pipelines/jobs/{name}.yaml").write_text(text)
    return {each.pipeline: yaml.safe_load(each.text) for each in compile_pipelines(Project((folder,)), [], OPTIONS)}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", CASES)
def test_every_manifest_fits_the_schemas(manifests, name, version):
    kubernetes_validate.validate(manifests[name], version, strict=True)


@pytest.mark.parametrize("name", CASES)
def test_names_and_labels_have_the_form_that_kubernetes_asks_for(manifests, name):
    metadata = manifests[name]["metadata"]

    assert NAME.fullmatch(metadata.get("name") or metadata["generateName"])
    assert all(LABEL.fullmatch(each) for each in metadata["labels"].values())


@pytest.mark.parametrize("name", CASES)
def test_pods_are_restricted_and_have_no_way_to_the_cluster(manifests, name):
    spec = manifests[name]["spec"]
    pod = spec.get("jobTemplate", {"spec": spec})["spec"]["template"]["spec"]
    (container,) = pod["containers"]

    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["limits"]["memory"]
    kinds = {kind for volume in pod["volumes"] for kind in volume if kind != "name"}
    assert kinds <= {"emptyDir", "secret", "persistentVolumeClaim"}


def test_what_the_jobs_refer_to_is_deployed_or_told_of(manifests):
    deployed = {(each["kind"], each["metadata"]["name"]) for each in yaml.safe_load_all(DEPLOYED.read_text())}
    pod = manifests["by-hand"]["spec"]["template"]["spec"]

    (claim,) = [
        each["persistentVolumeClaim"]["claimName"] for each in pod["volumes"] if "persistentVolumeClaim" in each
    ]
    (settings,) = [each["configMapRef"]["name"] for each in pod["containers"][0]["envFrom"] if "configMapRef" in each]
    assert {("PersistentVolumeClaim", claim), ("ConfigMap", settings), ("NetworkPolicy", "pipelines")} <= deployed
