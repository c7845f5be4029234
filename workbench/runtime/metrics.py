"""Serves the metrics of this process to the monitor, and says where."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pydantic import SecretStr

from workbench.observability.endpoint import metrics_endpoint
from workbench.observability.monitor.targets import Target, forget_target, read_target, target_file
from workbench.security.secrets import ensure_token, private_folder, write_private

logger = logging.getLogger(__name__)


def metrics_token(home: Path) -> SecretStr:
    """What every process of this workbench asks for who reads its metrics; made when there is none."""
    return SecretStr(ensure_token(home / "keys" / "metrics-token"))


@contextmanager
def serving_metrics(home: Path, job: str, obstacle: Callable[[], str] = lambda: "") -> Iterator[None]:
    """Serve while the context is open. Work does not depend on it: what fails is only logged.

    Args:
        home: WORKBENCH_HOME.
        job: what the process is; a second one of the same gets its process id behind.
        obstacle: what keeps the process from its work now, for `/readyz`; empty when nothing does.
    """
    with ExitStack() as stack:
        try:
            port = stack.enter_context(metrics_endpoint(metrics_token(home), obstacle=obstacle))
            target = publish_target(home, job, f"127.0.0.1:{port}")
            stack.callback(forget_target, home, target)
        except (OSError, ValueError) as error:
            logger.warning("nobody can read the metrics of %s: %s", job, error)
        yield


def publish_target(home: Path, job: str, address: str, *, path: str = "/metrics") -> Target:
    """Say where the metrics of this process are; gives what was said.

    Raises:
        OSError: when the file cannot be written.
    """
    target = Target.of_this_process(job, address, path=path)
    other = read_target(target_file(home, job))
    if other is not None and other.is_alive and other.pid != target.pid:
        target = Target.of_this_process(f"{job}.{target.pid}", address, path=path)
    private_folder(home / "run")
    file = target_file(home, target.job)
    private_folder(file.parent)
    write_private(file, target.as_json())
    return target
