"""Where the audit log is anchored."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

from pydantic import SecretStr

from workbench.sections.base import AbsolutePath, Section, is_loopback, variable

URL_FORM = "Write postgresql://role:password@host:5432/database."


class AuditSettings(Section):
    """The second place of the audit log's checkpoints; without one, only who cannot sign is found out."""

    anchor_file: AbsolutePath | None = variable(
        "WORKBENCH_AUDIT_ANCHOR_FILE", None, "file to which each checkpoint of the audit log is appended, too"
    )
    anchor_syslog: str = variable(
        "WORKBENCH_AUDIT_ANCHOR_SYSLOG",
        "",
        "syslog that is sent each checkpoint: a socket such as `/dev/log`, `udp://host:514` or `tcp://host:601`",
    )
    anchor_database_url: SecretStr = variable(
        "WORKBENCH_AUDIT_ANCHOR_DATABASE_URL",
        SecretStr(""),
        "`postgresql://role:password@host:port/database` whose role may add checkpoints and nothing else",
    )
    anchor_reader_url: SecretStr = variable(
        "WORKBENCH_AUDIT_ANCHOR_READER_URL",
        SecretStr(""),
        "the same with a role that may read them, for `workbench audit verify`",
    )

    def problems(self) -> list[str]:
        """What contradicts itself inside the section, one sentence with its remedy each."""
        found = []
        if self.anchor_file and not self.anchor_file.parent.is_dir():
            found.append(f"WORKBENCH_AUDIT_ANCHOR_FILE: there is no folder {self.anchor_file.parent}. Make it.")
        if self.anchor_syslog and not self.anchor_syslog.startswith(("/", "udp://", "tcp://")):
            found.append(
                "WORKBENCH_AUDIT_ANCHOR_SYSLOG is no address. Write /dev/log, udp://host:514 or tcp://host:601."
            )
        for field in ("anchor_database_url", "anchor_reader_url"):
            found += self._url_problems(field)
        return found

    def _url_problems(self, field: str) -> list[str]:
        # The address holds a password, so no part of it is shown.
        url = getattr(self, field).get_secret_value()
        if not url:
            return []
        try:
            address = urlsplit(url)
            host, _ = address.hostname or "", address.port
        except ValueError:
            return [f"{self.label(field)} is no address. {URL_FORM}"]
        if address.scheme not in {"postgresql", "postgres"} or not host or not address.username:
            return [f"{self.label(field)} is not the address of a database in PostgreSQL. {URL_FORM}"]
        modes = parse_qs(address.query).get("sslmode", [""])
        if not is_loopback(host) and modes not in (["verify-full"], ["verify-ca"]):
            return [f"{self.label(field)} is not on this machine. End it in ?sslmode=verify-full&sslrootcert=FILE."]
        return []
