"""A real Keycloak: an OpenID Connect issuer that hands out tokens to machines and to people."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import httpx
import psutil

from tests.services.certificates import Authority
from tests.services.workbench import ROOT, wait_until
from workbench.embedded.jars import SETTINGS_XML, ivy_jar, sha256
from workbench.embedded.java import find_java
from workbench.runtime.ports import any_free

VERSION = "26.4.0"
SHA256 = "1b6a11a2726ac8a8dc9c91d5fafe989a75ce4f1622d7f7b45c21d5bc16629c0a"
FETCH_SECONDS = 600
UP_SECONDS = 150
ADMIN = "admin"

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


@dataclass(frozen=True)
class Realm:
    """A realm of a Keycloak that answers, on loopback: https for clients, http for the broker's keys and the hub."""

    name: str
    https: str
    http: str
    authority: Path  #: signed the certificate of `https`
    pid: int  #: of the script that runs Keycloak
    admin_password: str = field(repr=False)

    @property
    def issuer(self) -> str:
        return f"{self.http}/realms/{self.name}"

    @property
    def token_url(self) -> str:
        return f"{self.https}/realms/{self.name}/protocol/openid-connect/token"

    @property
    def keys_url(self) -> str:
        return f"{self.issuer}/protocol/openid-connect/certs"

    def another(self, name: str, **settings: Any) -> Realm:
        """A new realm of the same Keycloak, with settings of its `RealmRepresentation`."""
        self._ask("POST", "/admin/realms", {"realm": name, "enabled": True, **settings})
        return replace(self, name=name)

    def add_client(self, client_id: str, secret: str, *, audience: str) -> None:
        """A client that gets tokens for itself, by client credentials."""
        mapper = {
            "name": "audience",
            "protocol": "openid-connect",
            "protocolMapper": "oidc-audience-mapper",
            "config": {"included.custom.audience": audience, "access.token.claim": "true"},
        }
        self.post(
            "/clients",
            {
                "clientId": client_id,
                "secret": secret,
                "serviceAccountsEnabled": True,
                "standardFlowEnabled": False,
                "protocolMappers": [mapper],
            },
        )

    def add_login_client(self, client_id: str, secret: str, *, callback: str, after_logout: str) -> None:
        """A confidential client that people log in through: PKCE required, groups in the user info."""
        # As the console makes it: groups are written as paths, `/engineers`.
        mapper = {
            "name": "groups",
            "protocol": "openid-connect",
            "protocolMapper": "oidc-group-membership-mapper",
            "config": {"claim.name": "groups", "full.path": "true", "userinfo.token.claim": "true"},
        }
        self.post(
            "/clients",
            {
                "clientId": client_id,
                "secret": secret,
                "redirectUris": [callback],
                "attributes": {"pkce.code.challenge.method": "S256", "post.logout.redirect.uris": after_logout},
                "protocolMappers": [mapper],
            },
        )

    def add_person(self, login: str, password: str, *, groups: Sequence[str]) -> str:
        """Somebody with a verified mail address in groups that are made when they are not there; returns their id."""
        known = {each["name"] for each in self.get("/groups")}
        for name in set(groups) - known:
            self.post("/groups", {"name": name})
        self.post(
            "/users",
            {
                "username": login,
                "email": f"{login}@example.com",
                "emailVerified": True,
                "firstName": login.title(),
                "lastName": "Example",
                "enabled": True,
                "groups": list(groups),
                "credentials": [{"type": "password", "value": password, "temporary": False}],
            },
        )
        return str(self.get(f"/users?username={login}&exact=true")[0]["id"])

    def leave_group(self, person: str, group: str) -> None:
        """Take the person, by id, out of a group."""
        found = next(each["id"] for each in self.get("/groups") if each["name"] == group)
        self.delete(f"/users/{person}/groups/{found}")

    def change_person(self, person: str, **changes: Any) -> None:
        """Set fields of the person's `UserRepresentation`, such as `enabled`."""
        self.put(f"/users/{person}", {**self.get(f"/users/{person}"), **changes})

    def end_sessions(self, person: str) -> None:
        """What `Sign out` does in the console: every session of the person ends, offline ones too."""
        self.post(f"/users/{person}/logout", {})

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Keycloak takes connections and answers none."""
        processes = [psutil.Process(self.pid), *psutil.Process(self.pid).children(recursive=True)]
        for each in processes:
            each.suspend()
        try:
            yield
        finally:
            for each in processes:
                each.resume()

    def get(self, path: str) -> Any:
        """Read something of the realm through the admin REST API; *path* begins behind the realm's name."""
        return self._ask("GET", f"/admin/realms/{self.name}{path}").json()

    def post(self, path: str, content: dict[str, Any]) -> None:
        """Add something."""
        self._ask("POST", f"/admin/realms/{self.name}{path}", content)

    def put(self, path: str, content: dict[str, Any]) -> None:
        """Change something; the realm itself is the empty path."""
        self._ask("PUT", f"/admin/realms/{self.name}{path}", content)

    def delete(self, path: str) -> None:
        """Remove something."""
        self._ask("DELETE", f"/admin/realms/{self.name}{path}")

    def _ask(self, method: str, path: str, content: dict[str, Any] | None = None) -> httpx.Response:
        login = {"grant_type": "password", "client_id": "admin-cli", "username": ADMIN, "password": self.admin_password}
        with httpx.Client(base_url=self.http, timeout=30) as client:
            token = client.post("/realms/master/protocol/openid-connect/token", data=login).raise_for_status().json()
            headers = {"Authorization": f"Bearer {token['access_token']}"}
            return client.request(method, path, json=content, headers=headers).raise_for_status()


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
