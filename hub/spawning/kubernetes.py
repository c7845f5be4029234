"""Servers in a Kubernetes cluster, each a pod with a home of its own; deploy/kubernetes has what surrounds them.

The hub and the pods run one image, so that a path of the program means the same to both.
"""

from __future__ import annotations

import shlex
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from hub.roles import role_of
from hub.spawning.admission import others_running, refuse_one_too_many, refuse_viewers
from hub.spawning.environment import COPY_LESSONS, NOT_SHARED, RUNTIME_VARIABLE
from hub.spawning.limits import set_limits
from workbench.errors import SettingsError
from workbench.resources import resource
from workbench.runtime.kernels import jupyter_folders
from workbench.sections import HubSettings, Section
from workbench.settings import Settings

HUB_API_PORT = 8081
HUB_API = f"http://hub.workbench-hub.svc.cluster.local:{HUB_API_PORT}"  #: the Service of deploy/kubernetes/hub.yaml
HOME = "/workspace"
FILES = "/etc/workbench/files"  #: where the Secret `workbench-files` is mounted, in the hub's pod too
DATA_SECRET, FILES_SECRET = "workbench-data", "workbench-files"
JARS = "/opt/workbench/jars"
USER_ID = 1000
STOP_SECONDS = 30
START_SECONDS = 300  #: a node may have to be added and the image fetched

# Runs in the pod beside the server: a home is empty at first, and what the user has is never overwritten.
FIRST_FILES = """\
mkdir -p -m 700 "$WORKBENCH_HOME"
[ -e "$WORKBENCH_HOME/jars" ] || ln -s {jars} "$WORKBENCH_HOME/jars"
home=$HOME lessons={notebooks}
{copying}"""
POD_SECURITY = {
    "runAsNonRoot": True,
    "fsGroupChangePolicy": "OnRootMismatch",
    "seccompProfile": {"type": "RuntimeDefault"},
}
CONTAINER_SECURITY = {
    "runAsNonRoot": True,
    "privileged": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


def set_pods(c: Any, settings: Settings) -> None:
    """A pod and a volume for each user; `clusters.set_kubernetes` calls it.

    Raises:
        SettingsError: when a pod would look for something that is only on the hub's machine.
    """
    # Servers that `workbench up` started listen on loopback, where no pod reaches them.
    external = Settings.load(embedded=False)
    if problems := _problems(external):
        raise SettingsError(problems)
    c.JupyterHub.spawner_class = "kubespawner.KubeSpawner"
    c.JupyterHub.hub_bind_url = f"http://0.0.0.0:{HUB_API_PORT}"
    c.JupyterHub.hub_connect_url = HUB_API
    # Pods live on while the hub starts anew.
    c.JupyterHub.cleanup_servers = False
    section = c.KubeSpawner
    section.environment = pod_environment(external)
    section.env_keep = []
    section.cmd = ["jupyterhub-singleuser"]
    section.start_timeout = START_SECONDS
    section.pre_spawn_hook = partial(prepare, settings.hub)
    section.post_stop_hook = None
    set_pod(section, settings.hub)
    set_storage(section, settings.hub)
    set_walls(section)


def set_pod(section: Any, hub: HubSettings) -> None:
    """Image, names, and how a pod begins and ends."""
    section.namespace = hub.kubernetes_namespace
    section.image = hub.kubernetes_image
    section.slug_scheme = "safe"
    section.handle_legacy_names = False
    # Nobody who makes room on a node may end somebody's work.
    section.extra_annotations = {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}
    section.delete_grace_period = STOP_SECONDS
    section.lifecycle_hooks = {"postStart": {"exec": {"command": ["sh", "-c", _first_files()]}}}
    probe = {"tcpSocket": {"port": "notebook-port"}, "periodSeconds": 1, "failureThreshold": 60}
    section.extra_container_config = {"readinessProbe": probe}
    section.extra_pod_config = {
        "terminationGracePeriodSeconds": STOP_SECONDS,
        # The variables for services begin with their names, and WORKBENCH_… are settings.
        "enableServiceLinks": False,
    }


def set_storage(section: Any, hub: HubSettings) -> None:
    """A volume for each home, which outlives server and account; the rest of the pod is read-only or temporary."""
    section.working_dir = HOME
    section.storage_pvc_ensure = True
    section.storage_capacity = f"{hub.kubernetes_storage.upper()}i"
    section.storage_access_modes = ["ReadWriteOnce"]
    section.delete_pvc = False
    section.volumes = {
        "files": {"name": "files", "secret": {"secretName": FILES_SECRET, "optional": True, "defaultMode": 0o440}},
        "home": {"name": "home", "persistentVolumeClaim": {"claimName": "{pvc_name}"}},
        "temporary": {"name": "temporary", "emptyDir": {}},
    }
    section.volume_mounts = {
        "files": {"name": "files", "mountPath": FILES, "readOnly": True},
        "home": {"name": "home", "mountPath": HOME},
        "temporary": {"name": "temporary", "mountPath": "/tmp"},  # noqa: S108 - of this pod alone
    }


def set_walls(section: Any) -> None:
    """What the profile `restricted` of Kubernetes' pod security standards asks for, and a read-only file system."""
    section.uid = section.gid = section.fs_gid = USER_ID
    section.privileged = False
    section.allow_privilege_escalation = False
    section.automount_service_account_token = False
    section.pod_security_context = POD_SECURITY
    section.container_security_context = CONTAINER_SECURITY


def prepare(hub: HubSettings, spawner: Any) -> None:
    """Called before each start: whether it may, and what the pod may take; the cluster knows its own memory."""
    role = role_of(spawner.user)
    refuse_viewers(role)
    refuse_one_too_many(hub.server_limit, others_running(spawner))
    set_limits(hub, role, spawner)
    # For network policies and quotas that tell roles apart.
    spawner.extra_labels = {"workbench/role": role}


def pod_environment(external: Settings) -> dict[str, Any]:
    """Environment of every pod; secrets are referred to, so that whoever may read pods does not read them."""
    plain, secret = {}, {}
    for section in _sections(external):
        hidden = {section.label(name) for name in section.model_fields_set if _is(section, name, SecretStr)}
        for name, value in section.as_environment().items():
            if name in hidden:
                secret[name] = {"name": name, "valueFrom": {"secretKeyRef": {"name": DATA_SECRET, "key": name}}}
            else:
                plain[name] = literal(value)
    own = {"HOME": HOME, "WORKBENCH_HOME": f"{HOME}/.workbench", RUNTIME_VARIABLE: "/tmp/jupyter"}  # noqa: S108
    if page := external.pipelines.service_url:
        # That of this machine is on loopback, where no pod reaches it.
        own[external.pipelines.label("service_url")] = literal(page)
    return {**own, **jupyter_folders(), **plain, **secret}


def literal(value: str) -> str:
    """*value* as KubeSpawner, which expands braces, and Kubernetes, which expands `$(NAME)`, leave it alone."""
    return value.replace("$(", "$$(").replace("{", "{{").replace("}", "}}")


def _problems(external: Settings) -> list[str]:
    found = []
    because = "WORKBENCH_HUB_SPAWNER is kubernetes, and pods do not reach"
    if not external.kafka.brokers:
        found.append(f"{because} an embedded broker. Set KAFKA_BROKERS to those of a cluster.")
    if not external.warehouse.host or external.warehouse.dialect == "duckdb":
        found.append(
            f"{because} an embedded warehouse or a file of DuckDB. "
            "Set DW_HOST to a server and WORKBENCH_WAREHOUSE_DIALECT to its kind."
        )
    if external.hub.process_limits:
        found.append(
            "WORKBENCH_HUB_PROCESS_LIMITS is set, but a pod cannot be told how many processes it may have. "
            "Unset it, and set podPidsLimit in the configuration of the kubelets."
        )
    for section in _sections(external):
        paths = {name: getattr(section, name) for name in section.model_fields_set if _is(section, name, Path)}
        found += [
            f"{section.label(name)} is {path}, which pods do not have. "
            f"Put the file into the Secret {FILES_SECRET} and write {FILES}/{path.name}."
            for name, path in paths.items()
            if Path(FILES) not in (path, path.parent) and section.label(name) not in NOT_SHARED
        ]
    return found


def _sections(external: Settings) -> tuple[Section, ...]:
    return (external.kafka, external.registry, external.warehouse, external.spark)


def _is(section: Section, name: str, kind: type) -> bool:
    return isinstance(getattr(section, name), kind)


def _first_files() -> str:
    return FIRST_FILES.format(jars=JARS, notebooks=shlex.quote(str(resource("notebooks"))), copying=COPY_LESSONS)
