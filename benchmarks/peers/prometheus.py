"""Prometheus itself, as a peer: the program on PATH, else that of the Debian package, fetched once into the cache of peers."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.services.workbench import wait_until
from workbench.resources import resource
from workbench.runtime.ports import LOOPBACK, any_free

FETCH_SECONDS, UP_SECONDS, STOP_SECONDS = 180, 60, 30
CONFIGURATION = """
global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 10s}}
rule_files: [{rules}]
scrape_configs:
  - job_name: workbench
    authorization: {{credentials_file: {token}}}
    file_sd_configs: [{{files: [{targets}/*.json], refresh_interval: 1s}}]
"""


@dataclass(frozen=True)
class Prometheus:
    """A server that answers."""

    url: str

    def query(self, text: str) -> list[float]:
        """The values of a query now."""
        answer = httpx.get(f"{self.url}/api/v1/query", params={"query": text}, trust_env=False).raise_for_status()
        found: list[dict[str, Any]] = answer.json()["data"]["result"]
        return [float(each["value"][1]) for each in found]

    @property
    def evaluation(self) -> tuple[str, float]:
        """When its group of rules was evaluated last, and the seconds that took."""
        answer = httpx.get(f"{self.url}/api/v1/rules", trust_env=False).raise_for_status()
        (group,) = answer.json()["data"]["groups"]
        return str(group["lastEvaluation"]), float(group["evaluationTime"])

    @property
    def version(self) -> str:
        """Of the program."""
        answer = httpx.get(f"{self.url}/api/v1/status/buildinfo", trust_env=False).raise_for_status()
        return str(answer.json()["data"]["version"])


def prometheus_program() -> str:
    """Its path.

    Raises:
        subprocess.SubprocessError: when it can neither be found nor fetched.
    """
    if found := shutil.which("prometheus"):
        return found
    cached = resource("pyproject.toml").parent / ".workbench" / "cache" / "peers" / "prometheus"
    if not cached.is_file():
        cached.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cached.parent) as folder:
            _run("apt-get", "download", "prometheus", folder=folder)
            (package,) = Path(folder).glob("prometheus_*.deb")
            _run("dpkg-deb", "--extract", str(package), folder, folder=folder)
            (Path(folder) / "usr" / "bin" / "prometheus").replace(cached)
    return str(cached)


@contextmanager
def running_prometheus(folder: Path, *, rules: str, token: Path, targets: Path) -> Iterator[Prometheus]:
    """Start it on loopback; it reads the targets each second, and evaluates the rules every ten, so that it leaves room for others.

    Args:
        folder: of its files.
        rules: text of a rule file with one group.
        token: file of the token that the targets ask for.
        targets: folder of the files that name them.
    """
    folder.mkdir(mode=0o700)
    file, configuration = folder / "rules.yaml", folder / "prometheus.yaml"
    file.write_text(rules, encoding="utf-8")
    configuration.write_text(CONFIGURATION.format(rules=file, token=token, targets=targets), encoding="utf-8")
    address = f"{LOOPBACK}:{any_free()}"
    options = (
        f"--config.file={configuration}",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address={address}",
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([prometheus_program(), *options, "--log.level=warn"], stdout=log, stderr=log)
    try:
        wait_until(lambda: _answers(address) or process.poll() is not None, UP_SECONDS, "Prometheus to answer")
        assert process.poll() is None, (folder / "log").read_text(encoding="utf-8", errors="replace")
        yield Prometheus(f"http://{address}")
    finally:
        process.terminate()
        process.wait(STOP_SECONDS)


def _answers(address: str) -> bool:
    with suppress(httpx.HTTPError):
        return httpx.get(f"http://{address}/-/ready", trust_env=False).is_success
    return False


def _run(*command: str, folder: str) -> None:
    subprocess.run(command, cwd=folder, capture_output=True, timeout=FETCH_SECONDS, check=True)
