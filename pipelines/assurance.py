"""The rows of `workbench doctor --security` that are those of pipelines: the service, and what runs leave."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path

from pipelines.engine.record.keeping import ENCRYPTED
from pipelines.planning.run_as import RunAsRule
from pipelines.runner.folders import LOG, OUTPUT, runs_folder
from pipelines.service.entrance.hub import HubAddress
from pipelines.service.process import hub_file
from workbench.observability.monitor.targets import HUB, read_targets
from workbench.security.assurance import Kind, NotProtected, Row, Site, examine, not_in_use
from workbench.security.assurance.files import begins_encrypted, is_private, on_encrypted_disk
from workbench.security.assurance.http import refuses_strangers
from workbench.security.assurance.rows import Check

MOST_FILES = 2000  #: that are opened; the newest runs first


def rows(site: Site) -> Iterator[Row]:
    """Called through the entry point group `workbench.assurance`."""
    yield _service(site)
    yield _metrics(site)
    yield _outputs(site)
    yield _rights(site)


def _service(site: Site) -> Row:
    subject = "pipelines service"
    if site.pid is None:
        return not_in_use(Kind.HOP, subject, "the workbench does not run here; `workbench up` starts it")
    try:
        address = HubAddress.read(hub_file(site.home))
    except FileNotFoundError:
        return not_in_use(Kind.HOP, subject, "there is no PostgreSQL for its store")
    url = f"http://127.0.0.1:{address.port}{address.prefix}api/v1/runs"
    return examine(Kind.HOP, subject, partial(site.stays_here, address.port), partial(refuses_strangers, url))


def _metrics(site: Site) -> Row:
    """The ports at which the monitor reads the metrics of the workbench's processes."""
    subject = "metrics"
    # JupyterHub's own are behind the hub's API, which has a row.
    found = [each for each in read_targets(site.home) if each.is_alive and each.job != HUB]
    if site.pid is None or not found:
        return not_in_use(Kind.HOP, subject, "no process shows metrics")
    checks: list[Check] = []
    for each in found:
        checks.append(partial(site.stays_here, int(each.address.rpartition(":")[2])))
        checks.append(partial(refuses_strangers, f"http://{each.address}{each.path}"))
    return examine(Kind.HOP, subject, *checks)


def _outputs(site: Site) -> Row:
    subject, folder = "run outputs", runs_folder(site.home)
    if not folder.is_dir():
        return not_in_use(Kind.STORE, subject, "no pipeline has run yet")
    checks: list[Check] = [partial(is_private, folder)]
    if site.settings.pipelines.encrypt_outputs:
        checks.append(partial(_are_encrypted, folder))
    else:
        checks.append(partial(on_encrypted_disk, folder))
    return examine(Kind.STORE, subject, *checks)


def _are_encrypted(folder: Path) -> str:
    """Each notebook and log begins as encrypted data does, whatever its name says."""
    encrypted, clear = 0, []
    for file in islice(_left(folder), MOST_FILES):
        if file.suffix == ENCRYPTED:
            if file.stat().st_size:  # one that has just been made is empty
                begins_encrypted(file)
                encrypted += 1
        else:
            clear.append(file)
    if clear:
        raise NotProtected(
            f"{len(clear)} outputs are in clear, such as {clear[0]}: of runs before they were to be encrypted",
            remedy="Remove those files; their runs stay in the store.",
            promised=False,
        )
    return f"{encrypted} logs and notebooks are encrypted"


def _rights(site: Site) -> Row:
    """As whom steps connect to the warehouse."""
    return examine(Kind.HOP, "steps to warehouse", partial(_run_as_somebody, RunAsRule.of(site.settings)))


def _run_as_somebody(rule: RunAsRule) -> str:
    if not rule.required:
        raise NotProtected(
            "steps of pipelines without run_as connect as DW_USER, who reads and writes all",
            remedy="Set WORKBENCH_PIPELINES_REQUIRE_RUN_AS, and name those that write in WORKBENCH_PIPELINES_WITHOUT_RUN_AS.",
            promised=False,
        )
    but = f", but for {', '.join(sorted(rule.exempt))}" if rule.exempt else ""
    return f"each pipeline has to run as somebody{but}; others are neither queued nor run"


def _left(folder: Path) -> Iterator[Path]:
    """What attempts have left, of the newest runs first."""
    runs = sorted((each for each in folder.iterdir() if each.name.isdigit()), key=lambda each: -int(each.name))
    for run in runs:
        for name in (LOG, OUTPUT):
            yield from run.glob(f"*/{name}*")
