"""Fetches the jars of spark_conf/jars.lock once, through the Ivy inside PySpark, and checks every one.

Run as a script it writes the lock anew: `python -m workbench.embedded.jars lock`.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from xml.sax.saxutils import quoteattr

from workbench.embedded.java import Java, find_java
from workbench.embedded.scratch import scratch_folder
from workbench.errors import JarsError
from workbench.resources import resource
from workbench.security.secrets import private_folder

IVY_SECONDS = 600

# What each server needs beyond what PySpark ships; `lock` resolves what these need in turn.
ROOTS = {
    "kafka": (
        "org.apache.kafka:kafka_2.13:4.3.0",
        # Kafka logs through SLF4J 1 and brings no backend.
        "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4",
    ),
    "spark": ("org.apache.spark:spark-sql-kafka-0-10_2.13:4.2.0", "org.postgresql:postgresql:42.7.8"),
}

SETTINGS_XML = """\
<ivysettings>
  <settings defaultResolver="default"/>
  <caches defaultCacheDir={cache}/>
  <resolvers><ibiblio name="default" m2compatible="true"{root}/></resolvers>
</ivysettings>
"""
MODULE_XML = """\
<ivy-module version="2.0">
  <info organisation="workbench" module="jars"/>
  <configurations><conf name="default"/></configurations>
  <dependencies>
{dependencies}
  </dependencies>
</ivy-module>
"""


@dataclass(frozen=True)
class Jar:
    """One line of the lock: the server it is for, its Maven coordinates, its sha256."""

    server: str
    coordinates: str  #: group:artifact:version
    sha256: str

    @property
    def file_name(self) -> str:
        """The name of its file, as Maven repositories have it."""
        _, artifact, version = self.coordinates.split(":")
        return f"{artifact}-{version}.jar"


def read_lock(path: Path | None = None) -> tuple[Jar, ...]:
    """The jars of the lock file: lines of server, coordinates and sha256; `#` begins a comment."""
    lines = (path or resource("spark_conf") / "jars.lock").read_text(encoding="utf-8").splitlines()
    return tuple(Jar(*line.split()) for line in lines if line.strip() and not line.startswith("#"))


def ensure_jars(folder: Path, jars: Iterable[Jar], *, repository: str = "") -> dict[str, list[Path]]:
    """Return the checked jar files of each server under *folder*, fetching what is not there.

    Args:
        folder: where the jars are kept from one run to the next.
        jars: the lock.
        repository: root of a Maven repository to use in place of Maven Central.

    Raises:
        JarsError: when a jar cannot be fetched, or has another sha256 than the lock; that file
            is removed, so that the next run fetches it again.
    """
    jars, folder = tuple(jars), folder.absolute()
    paths = {jar: folder / jar.server / jar.file_name for jar in jars}
    missing = [jar for jar, path in paths.items() if not is_jar_intact(jar, path)]
    if missing:
        _fetch(folder, missing, repository)
    for jar in missing:
        _check(jar, paths[jar])
    servers = dict.fromkeys(jar.server for jar in jars)
    return {server: [path for jar, path in paths.items() if jar.server == server] for server in servers}


def is_jar_intact(jar: Jar, path: Path) -> bool:
    """Whether the file at *path* is the jar of the lock."""
    return path.is_file() and sha256(path) == jar.sha256


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check(jar: Jar, path: Path) -> None:
    if not path.is_file():
        raise JarsError(
            f"{jar.coordinates} was not found in the repository",
            remedy="Run the command again; if it stays so, check spark_conf/jars.lock.",
        )
    if (found := sha256(path)) != jar.sha256:
        path.unlink()
        raise JarsError(
            f"{jar.coordinates} has sha256 {found}, but spark_conf/jars.lock says {jar.sha256}; the file was removed",
            remedy="Run the command again. If it happens twice, the repository or something on the way to it serves another file: do not use it.",
        )


def _fetch(folder: Path, jars: Iterable[Jar], repository: str) -> None:
    """Fetch exactly the jars asked for into a new folder, then move each to its place.

    The lock lists every jar, so nothing is resolved in turn. Ivy's cache lives in the new
    folder too: a failed attempt leaves a cache that silently lacks jars.
    """
    private_folder(folder)
    with scratch_folder(folder, ".fetch-") as temporary:
        for server in {jar.server for jar in jars}:
            wanted = [jar for jar in jars if jar.server == server]
            fetched = temporary / server
            _run_ivy(find_java(), [jar.coordinates for jar in wanted], fetched, repository, transitive=False)
            target = private_folder(folder / server)
            for file in fetched.glob("*.jar"):
                file.replace(target / file.name)


def _run_ivy(java: Java, coordinates: Iterable[str], target: Path, repository: str, *, transitive: bool) -> str:
    work = target.parent
    settings, module = work / "settings.xml", work / "ivy.xml"
    root = f" root={quoteattr(repository)}" if repository else ""
    settings.write_text(SETTINGS_XML.format(cache=quoteattr(str(work / "cache")), root=root), encoding="utf-8")
    module.write_text(
        MODULE_XML.format(dependencies="\n".join(_dependency(each, transitive) for each in coordinates)),
        encoding="utf-8",
    )
    command = [
        *(str(java.executable), *java.trust_options(work), "-jar", str(ivy_jar())),
        *("-settings", str(settings), "-ivy", str(module), "-confs", "default", "-types", "jar", "bundle"),
        *("-retrieve", f"{target}/[artifact]-[revision].[ext]"),
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=IVY_SECONDS, check=False, cwd=work)
    except subprocess.TimeoutExpired:
        raise JarsError(
            f"fetching jars took more than {IVY_SECONDS} s", remedy="Check the network, then run the command again."
        ) from None
    if done.returncode:
        raise JarsError(
            f"Ivy could not fetch the jars:\n{_ivy_problems(done.stdout + done.stderr)}",
            remedy="Check the network and the proxy settings, then run the command again.",
        )
    return done.stdout


def _dependency(coordinates: str, transitive: bool) -> str:
    group, artifact, version = (quoteattr(part) for part in coordinates.split(":"))
    return f'    <dependency org={group} name={artifact} rev={version} conf="default->{"default" if transitive else "master"}" transitive="{str(transitive).lower()}"/>'


def _ivy_problems(output: str) -> str:
    _, found, problems = output.partition(":: problems summary ::")
    return "\n".join((problems if found else output).strip().splitlines()[-15:])


def ivy_jar() -> Path:
    """The Ivy that Spark uses for `--packages`, inside the PySpark wheel."""
    jar = next(pyspark_jars().glob("ivy-*.jar"), None)
    if jar is None:
        raise JarsError(f"there is no ivy-*.jar in {pyspark_jars()}", remedy="Install pyspark again: `make setup`.")
    return jar


def pyspark_home() -> Path:
    """The folder of the installed PySpark, which is a whole SPARK_HOME. Found without importing it."""
    spec = find_spec("pyspark")
    if spec is None or spec.origin is None:
        raise JarsError("pyspark is not installed", remedy="Run `make setup`, or install analytics-workbench[spark].")
    return Path(spec.origin).parent


def pyspark_jars() -> Path:
    """The folder of the jars that PySpark ships."""
    return pyspark_home() / "jars"


def write_lock(path: Path, repository: str = "") -> None:
    """Resolve ROOTS with everything they need, less what PySpark ships, and write the lock."""
    lines = [
        "# Every jar that is fetched: server, coordinates, sha256. `python -m workbench.embedded.jars lock` writes it.\n"
    ]
    for server, roots in ROOTS.items():
        work = Path(tempfile.mkdtemp())
        try:
            _run_ivy(find_java(), roots, work / server, repository, transitive=True)
            cached = {file.name: file for file in (work / "cache").glob("*/*/jars/*.jar")}
            cached |= {file.name: file for file in (work / "cache").glob("*/*/bundles/*.jar")}
            shipped = {_artifact(file) for file in pyspark_jars().glob("*.jar")} if server == "spark" else set()
            lines += sorted(
                f"{server} {file.parts[-4]}:{file.parts[-3]}:{_version(file)} {sha256(file)}\n"
                for file in cached.values()
                if _artifact(file) not in shipped | {"checker-qual", "jsr305", "scala-parallel-collections_2.13"}
            )
        finally:
            shutil.rmtree(work)
    path.write_text("".join(lines), encoding="utf-8")


def _version(file: Path) -> str:
    return file.stem.removeprefix(f"{file.parts[-3]}-")


def _artifact(file: Path) -> str:
    return file.stem.rpartition("-")[0]


if __name__ == "__main__":
    if sys.argv[1:] != ["lock"]:
        sys.exit("usage: python -m workbench.embedded.jars lock")
    write_lock(resource("spark_conf") / "jars.lock")
