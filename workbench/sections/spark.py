"""Where Spark runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr

from workbench.sections.base import AbsolutePath, Memory, Section, variable

#: Profiles of spark_conf/ and how the masters begin that each is for.
MASTERS = {"local": "local", "standalone": "spark://", "yarn": "yarn", "kubernetes": "k8s://"}


class SparkSettings(Section):
    """Where Spark runs; without WORKBENCH_SPARK_REMOTE a Connect server is started."""

    master_url: str = variable(
        "SPARK_MASTER_URL", "local[*]", "where executors run: `local[*]`, `yarn`, `spark://…`, `k8s://…`"
    )
    executor_memory: Memory = variable("SPARK_EXECUTOR_MEMORY", "2g", "heap of one executor")
    driver_memory: Memory = variable("SPARK_DRIVER_MEMORY", "1g", "heap of the driver, which is the Connect server")
    profile: str = variable(
        "WORKBENCH_SPARK_PROFILE", "", "a file of `spark_conf/` without `.conf`; unset is that of SPARK_MASTER_URL"
    )
    conf_folder: AbsolutePath | None = variable(
        "WORKBENCH_SPARK_CONF_FOLDER", None, "folder with profiles of your own; one of the same name adds to ours"
    )
    secret: SecretStr = variable(
        "WORKBENCH_SPARK_SECRET", SecretStr(""), "`spark.authenticate.secret` of a standalone cluster"
    )
    app_name: str = variable(
        "WORKBENCH_SPARK_APP_NAME",
        "workbench-spark",
        "`spark.app.name` of servers that are started, as clusters show it",
    )
    queue: str = variable("WORKBENCH_SPARK_QUEUE", "", "queue of YARN; unset is `default`")
    dynamic_allocation: bool = variable(
        "WORKBENCH_SPARK_DYNAMIC_ALLOCATION", False, "executors come and go with the work"
    )
    max_executors: Annotated[int, Field(ge=0)] = variable(
        "WORKBENCH_SPARK_MAX_EXECUTORS", 0, "executors at most; 0 leaves it to the profile"
    )
    python: str = variable("WORKBENCH_SPARK_PYTHON", "", "path of Python on the executors; unset is this one's")
    kubernetes_image: str = variable("WORKBENCH_SPARK_KUBERNETES_IMAGE", "", "image of executor pods")
    kubernetes_namespace: str = variable(
        "WORKBENCH_SPARK_KUBERNETES_NAMESPACE", "workbench", "namespace of executor pods"
    )
    remote: str = variable("WORKBENCH_SPARK_REMOTE", "", "`sc://host:port` of a Spark Connect server; unset starts one")
    token: SecretStr = variable("WORKBENCH_SPARK_TOKEN", SecretStr(""), "token of that Connect server")
    endpoint_file: Path | None = variable(
        "WORKBENCH_SPARK_ENDPOINT_FILE",
        None,
        "set by JupyterLab for its kernels: where the user's own Connect server is told",
    )
    preload: bool = variable(
        "WORKBENCH_SPARK_PRELOAD",
        True,
        "whether kernels with a Connect server of their user's import PySpark before the first cell; takes 130 MB each",
    )
    reports: Path | None = variable(
        "WORKBENCH_SPARK_REPORTS",
        None,
        "set by JupyterLab and workers for what they run: the socket to which ended operations are told, for metrics",
    )
    ui_path: str = variable(
        "WORKBENCH_SPARK_UI_PATH", "", "set by JupyterLab for its kernels: the path of the Spark UI in the browser"
    )

    def problems(self) -> list[str]:
        """What contradicts itself inside the section, one sentence with its remedy each."""
        found = []
        if self.remote and not re.fullmatch(r"sc://[^/;]+:\d+/?", self.remote):
            # The address is shown in places where its parameters, the token among them, must not be.
            where = self.remote.partition(";")[0]
            found.append(
                f"WORKBENCH_SPARK_REMOTE: {where!r} is not sc://host:port. Write sc://host:15002, and the token in WORKBENCH_SPARK_TOKEN."
            )
        begins = MASTERS.get(self.profile, "")
        if "master_url" in self.model_fields_set and not self.master_url.startswith(begins):
            found.append(
                f"WORKBENCH_SPARK_PROFILE is {self.profile}, whose masters begin with {begins!r}, but SPARK_MASTER_URL is {self.master_url!r}. Correct one, or unset WORKBENCH_SPARK_PROFILE."
            )
        if self.conf_folder and not self.conf_folder.is_dir():
            found.append(
                f"WORKBENCH_SPARK_CONF_FOLDER: there is no folder {self.conf_folder}. Make it, or unset the variable."
            )
        return found
