"""What a step that runs as somebody may know of the worker's environment: what is named here, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping

from workbench.sections import variables

#: What programs need to start and to say things in somebody's language.
PLAIN = frozenset(
    {"PATH", "HOME", "USER", "LOGNAME", "SHELL", "TERM", "TMPDIR", "TZ", "LANG", "LANGUAGE", "SSL_CERT_FILE"}
    | {"VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONPATH", "PYTHONHOME", "PYTHONWARNINGS", "PYTHONHASHSEED"}
    | {"JUPYTER_PATH", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "MPLCONFIGDIR"}
    | {"XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR", "LD_LIBRARY_PATH"}
    | {"WORKBENCH_LOG_FORMAT", "WORKBENCH_LOG_LEVEL", "WORKBENCH_SPARK_REPORTS"}
    | {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "JAVA_HOME", "SPARK_HOME", "WORKBENCH_HOME"}
)


def process_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """That of kernels and child processes: no setting of the workbench is in it but where its home folder is, how to log, and who counts."""
    return {name: value for name, value in environment.items() if name in PLAIN or name.startswith("LC_")}


def secret_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Where secrets of the scheme `env` may be: the settings of the workbench are not for pipelines."""
    return {name: value for name, value in environment.items() if name not in variables()}
