"""Where Spark runs."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import SecretStr

from workbench.sections.base import Memory, Section, variable


class SparkSettings(Section):
    """Where Spark runs; without WORKBENCH_SPARK_REMOTE a Connect server is started."""

    master_url: str = variable(
        "SPARK_MASTER_URL", "local[*]", "where executors run: `local[*]`, `yarn`, `spark://…`, `k8s://…`"
    )
    executor_memory: Memory = variable("SPARK_EXECUTOR_MEMORY", "2g", "heap of one executor")
    driver_memory: Memory = variable("SPARK_DRIVER_MEMORY", "1g", "heap of the driver, which is the Connect server")
    remote: str = variable("WORKBENCH_SPARK_REMOTE", "", "`sc://host:port` of a Spark Connect server; unset starts one")
    token: SecretStr = variable("WORKBENCH_SPARK_TOKEN", SecretStr(""), "token of that Connect server")
    endpoint_file: Path | None = variable(
        "WORKBENCH_SPARK_ENDPOINT_FILE",
        None,
        "set by JupyterLab for its kernels: where the user's own Connect server is told",
    )
    ui_path: str = variable(
        "WORKBENCH_SPARK_UI_PATH", "", "set by JupyterLab for its kernels: the path of the Spark UI in the browser"
    )

    def problems(self) -> list[str]:
        """What contradicts itself inside the section, one sentence with its remedy each."""
        if self.remote and not re.fullmatch(r"sc://[^/;]+:\d+/?", self.remote):
            # The address is shown in places where its parameters, the token among them, must not be.
            where = self.remote.partition(";")[0]
            return [
                f"WORKBENCH_SPARK_REMOTE: {where!r} is not sc://host:port. Write sc://host:15002, and the token in WORKBENCH_SPARK_TOKEN."
            ]
        return []
