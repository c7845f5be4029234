"""A real Keycloak: an OpenID Connect issuer that hands out tokens to machines and to people."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.sax.saxutils import quoteattr

import httpx
import psutil

from tests.services.certificates import Authority
from tests.services.keycloak_realm import ADMIN, Realm
from tests.services.workbench import ROOT, wait_until
from workbench.embedded.jars import SETTINGS_XML, ivy_jar, sha256
from workbench.embedded.java import find_java
from workbench.runtime.ports import any_free

VERSION = "26.4.0"
SHA256 = "1b6a11a2726ac8a8dc9c91d5fafe989a75ce4f1622d7f7b45c21d5bc16629c0a"
FETCH_SECONDS = 600
UP_SECONDS = 150

IVY_XML = f"""\
<ivy-module version="2.0">
  <info organisation="workbench" module="keycloak"/>
  <configurations><conf name="default"/></configurations>
  <dependencies>
    <dependency org="org.keycloak" name="keycloak-quarkus-dist" rev="{VERSION}" conf="default->master" transitive="false">
      <artifact name="keycloak-quarkus-dist" type="zip" ext="zip"/>
    </dependency>
  </dependencies>
</ivy-module>
"""


@contextmanager
def running_keycloak(folder: Path) -> Iterator[Realm]:
    """Start Keycloak on loopback with a realm of its own, and stop it at the end."""
    folder.mkdir()
    with zipfile.ZipFile(_distribution()) as archive:
        archive.extractall(folder)
    home = folder / f"keycloak-{VERSION}"
    authority = Authority(folder, "keycloak-authority")
    shown = authority.issue("keycloak")
    http, https = any_free(), any_free()
    admin_password = secrets.token_hex(16)
    environment = {
        **os.environ,
        "JAVA_HOME": str(find_java().home),
        "JAVA_OPTS_KC_HEAP": "-Xms128m -Xmx384m",
        # It lives for a minute: no time for the optimizing compiler.
        "JAVA_OPTS_APPEND": "-XX:TieredStopAtLevel=1",
        "KC_BOOTSTRAP_ADMIN_USERNAME": ADMIN,
        "KC_BOOTSTRAP_ADMIN_PASSWORD": admin_password,
    }
    options = [
        *("--http-host", "127.0.0.1", "--http-enabled", "true", "--http-port", str(http), "--https-port", str(https)),
        *("--https-certificate-file", str(shown.certificate), "--https-certificate-key-file", str(shown.key)),
    ]
    with (folder / "keycloak.log").open("wb") as log:
        process = subprocess.Popen(
            ["bash", str(home / "bin" / "kc.sh"), "start-dev", *options],
            env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=home,
        )  # fmt: skip
    master = Realm(
        name="master",
        https=f"https://localhost:{https}",
        http=f"http://127.0.0.1:{http}",
        authority=authority.file,
        pid=process.pid,
        admin_password=admin_password,
    )
    try:
        wait_until(lambda: process.poll() is not None or _answers(master), UP_SECONDS, "Keycloak to answer")
        assert process.poll() is None, (folder / "keycloak.log").read_text()[-3000:]
        yield master.another("workbench")
    finally:
        _stop(process)
        shutil.rmtree(home, ignore_errors=True)


def _distribution() -> Path:
    """The zip of Maven Central, fetched once into the checkout and checked each time."""
    file = ROOT / ".workbench" / "cache" / f"keycloak-quarkus-dist-{VERSION}.zip"
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=file.parent, prefix=".fetch-") as work:
            _fetch(Path(work)).replace(file)
    if sha256(file) != SHA256:
        file.unlink()
        raise AssertionError(f"{file} was not Keycloak {VERSION} and has been removed")
    return file


def _fetch(work: Path) -> Path:
    """Fetch it the way the jars are fetched: through the Ivy inside PySpark, from the repository of the settings."""
    repository = os.environ.get("WORKBENCH_EMBEDDED_JARS_REPOSITORY", "")
    root = f" root={quoteattr(repository)}" if repository else ""
    (work / "settings.xml").write_text(SETTINGS_XML.format(cache=quoteattr(str(work / "cache")), root=root))
    (work / "ivy.xml").write_text(IVY_XML)
    java = find_java()
    command = [
        *(str(java.executable), *java.trust_options(work), "-jar", str(ivy_jar())),
        *("-settings", str(work / "settings.xml"), "-ivy", str(work / "ivy.xml"), "-types", "zip"),
        *("-retrieve", f"{work}/[artifact].[ext]"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_SECONDS, check=False, cwd=work)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return work / "keycloak-quarkus-dist.zip"


def _answers(realm: Realm) -> bool:
    try:
        return httpx.get(f"{realm.http}/realms/master", timeout=5).is_success
    except httpx.HTTPError:
        return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the script and the Java that it has started."""
    processes = [*psutil.Process(process.pid).children(recursive=True), process] if process.poll() is None else []
    for each in processes:
        each.terminate()
    for each in processes:
        try:
            each.wait(20)
        except (subprocess.TimeoutExpired, psutil.TimeoutExpired):
            each.kill()
            each.wait(20)
