"""Profiles: what a Spark server starts with, from spark_conf/, a folder of one's own, and the settings."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from workbench.errors import ClusterError
from workbench.resources import resource
from workbench.sections import SparkSettings
from workbench.sections.spark import MASTERS

DEFAULT_MASTERS = {"local": "local[*]", "yarn": "yarn"}  # the others have an address, which only people know
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
APP_NAME = "spark.app.name"
POD_TEMPLATE = "spark.kubernetes.executor.podTemplateFile"
ON = "true"


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What one Connect server starts with, and where its executors run."""

    name: str
    kind: str  #: local, standalone, yarn or kubernetes
    master_url: str
    text: str = field(repr=False)  #: the files, base.conf first
    own: Mapping[str, str] = field(repr=False)  #: what the settings say; wins over the files

    @property
    def is_cluster(self) -> bool:
        """Whether executors are processes of their own."""
        return self.kind != "local"

    @property
    def values(self) -> Mapping[str, str]:
        """All properties, the later winning, secrets in clear."""
        return {**parse(self.text), **self.own}

    def render(self, more: Mapping[str, str]) -> str:
        """The properties file, with *more* at its end."""
        return self.text + "\n".join(f"{key} {escaped(value)}" for key, value in {**self.own, **more}.items()) + "\n"


def read_profile(settings: SparkSettings, name: str = "") -> Profile:
    """The profile that *name* says, else the settings, else the master.

    Args:
        settings: what the variables say; they win over the files.
        name: a profile other than that of the settings. Its kind of master then wins over
            SPARK_MASTER_URL, where that is of another kind.

    Raises:
        ClusterError: when there is no such profile, or something that its cluster needs is not set.
    """
    wanted = name or settings.profile or kind_of(settings.master_url)
    files = _files(settings, wanted)
    text = "".join(file.read_text(encoding="utf-8").rstrip("\n") + "\n" for file in files)
    said = settings.master_url if "master_url" in settings.model_fields_set else ""
    in_file = parse(text).get("spark.master", "")
    if wanted in MASTERS:
        fits = [each for each in (said, in_file, DEFAULT_MASTERS.get(wanted, "")) if each.startswith(MASTERS[wanted])]
        master = next(filter(None, fits), "")
    else:
        master = said or in_file or settings.master_url
    if not master:
        raise ClusterError(
            f"the profile {wanted!r} needs the address of its master",
            remedy=f"Set SPARK_MASTER_URL to {MASTERS[wanted]}… or write spark.master into {wanted}.conf.",
        )
    kind = kind_of(master)
    if wanted not in MASTERS:
        # What all clusters of that kind need, encryption for one, is not repeated in a profile of one's own.
        files = [*_files(settings, kind), *(file for file in files if file.name != "base.conf")]
        text = "".join(file.read_text(encoding="utf-8").rstrip("\n") + "\n" for file in files)
    values = parse(text)
    own = {"spark.master": master, **_own(settings, kind, values)}
    _check(settings, kind, {**values, **own})
    return Profile(name=wanted, kind=kind, master_url=master, text=text, own=own)


def kind_of(master_url: str) -> str:
    """The profile in spark_conf/ that belongs to a master.

    Raises:
        ClusterError: when none does.
    """
    for kind, begins in MASTERS.items():
        if master_url.startswith(begins):
            return kind
    raise ClusterError(
        f"SPARK_MASTER_URL is {master_url!r}, which is no master of Spark",
        remedy="Set it to local[*], spark://host:7077, yarn or k8s://https://host:6443.",
    )


def known_profiles(settings: SparkSettings) -> Sequence[str]:
    """Names of all profiles, ours and those of one's own."""
    return sorted({file.stem for folder in _folders(settings) for file in folder.glob("*.conf")} - {"base"})


def parse(text: str) -> dict[str, str]:
    """The properties of a spark-defaults file."""
    lines = (line.strip() for line in text.splitlines())
    pairs = (re.split(r"[\s=:]+", line, maxsplit=1) for line in lines if line and line[0] not in "#!")
    return {key: rest[0].strip() if rest else "" for key, *rest in pairs}


def escaped(value: str) -> str:
    """A value as java.util.Properties reads it back, whatever is in it."""
    for plain, safe in {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}.items():
        value = value.replace(plain, safe)
    return f"\\{value}" if value.startswith(" ") else value


def _folders(settings: SparkSettings) -> list[Path]:
    return [resource("spark_conf"), *([settings.conf_folder] if settings.conf_folder else [])]


def _files(settings: SparkSettings, name: str) -> list[Path]:
    folders = _folders(settings)
    found = [folder / f"{name}.conf" for folder in folders if NAME.fullmatch(name)]
    found = [file for file in found if file.is_file()]
    if not found or name == "base":
        raise ClusterError(
            f"there is no profile {name!r} in {' or '.join(map(str, folders))}; known are {', '.join(known_profiles(settings))}",
            remedy=f"Name one of these, or write {folders[-1] / 'NAME.conf'}.",
        )
    base = [file for folder in folders if (file := folder / "base.conf").is_file()]
    return [*base, *found]


def _own(settings: SparkSettings, kind: str, values: Mapping[str, str]) -> dict[str, str]:
    memory = {"driver": settings.driver_memory, "executor": settings.executor_memory}
    own = {
        f"spark.{who}.memory": size
        for who, size in memory.items()
        # A default of ours does not win over what somebody has written.
        if f"{who}_memory" in settings.model_fields_set or f"spark.{who}.memory" not in values
    }
    if "app_name" in settings.model_fields_set or APP_NAME not in values:
        own[APP_NAME] = settings.app_name
    if kind == "local":
        return own
    own["spark.pyspark.python"] = settings.python or values.get("spark.pyspark.python") or sys.executable
    secret = settings.secret.get_secret_value()
    # YARN and Kubernetes hand out a secret of each application themselves, which is better than one for all.
    if secret and kind == "standalone":
        own["spark.authenticate.secret"] = secret
    if settings.queue and kind == "yarn":
        own["spark.yarn.queue"] = settings.queue
    if kind == "kubernetes":
        template = values.get(POD_TEMPLATE) or str(resource("spark_conf") / "executor-pod.yaml")
        own |= {POD_TEMPLATE: template, "spark.kubernetes.executor.podTemplateContainerName": "executor"}
        if settings.kubernetes_image:
            own["spark.kubernetes.container.image"] = settings.kubernetes_image
        if "kubernetes_namespace" in settings.model_fields_set or "spark.kubernetes.namespace" not in values:
            own["spark.kubernetes.namespace"] = settings.kubernetes_namespace
    return own | _executors(settings, kind, values)


def _executors(settings: SparkSettings, kind: str, values: Mapping[str, str]) -> dict[str, str]:
    most = settings.max_executors
    if settings.dynamic_allocation or values.get("spark.dynamicAllocation.enabled") == ON:
        service = values.get("spark.shuffle.service.enabled") == ON
        return {
            "spark.dynamicAllocation.enabled": ON,
            # Without the service shuffle files go with their executor: one that holds such files is kept.
            **({} if service else {"spark.dynamicAllocation.shuffleTracking.enabled": ON}),
            **({"spark.dynamicAllocation.maxExecutors": str(most)} if most else {}),
        }
    if not most:
        return {}
    if kind == "standalone":
        # A standalone cluster counts cores, not executors.
        return {"spark.cores.max": str(most * int(values.get("spark.executor.cores", 1)))}
    return {"spark.executor.instances": str(most)}


def _check(settings: SparkSettings, kind: str, values: Mapping[str, str]) -> None:
    if kind == "standalone" and values.get("spark.authenticate") == ON and not values.get("spark.authenticate.secret"):
        raise ClusterError(
            "a standalone cluster lets in who knows its secret, and WORKBENCH_SPARK_SECRET is not set",
            remedy="Set it to the spark.authenticate.secret of the cluster's master and workers.",
        )
    if kind == "kubernetes" and not values.get("spark.kubernetes.container.image"):
        raise ClusterError(
            "executors on Kubernetes need an image, and WORKBENCH_SPARK_KUBERNETES_IMAGE is not set",
            remedy="Set it to an image with Spark, Java and Python of the versions that run here.",
        )
