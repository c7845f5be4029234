"""Where the SQL warehouse is, and where pipelines keep their runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, Self
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from pydantic import PrivateAttr, SecretStr

from workbench.sections.base import AbsolutePath, CommaSeparated, Port, Section, is_loopback, variable
from workbench.sections.keys import KeysSettings

EMBEDDED_SUPERUSER = "postgres"
SSL_MODES = ("disable", "require", "verify-ca", "verify-full")


class WarehouseSettings(Section):
    """How to reach the SQL warehouse; without DW_HOST an embedded PostgreSQL is started."""

    host: str = variable("DW_HOST", "", "host of the warehouse; unset starts the embedded PostgreSQL")
    port: Port = variable("DW_PORT", 5439, "port of the warehouse")
    database: str = variable("DW_DATABASE", "analytics", "database name")
    user: str = variable("DW_USER", "", "role to connect as")
    password: SecretStr = variable("DW_PASSWORD", SecretStr(""), "password of that role")
    sslmode: Literal["disable", "require", "verify-ca", "verify-full"] | None = variable(
        "WORKBENCH_WAREHOUSE_SSLMODE", None, "libpq's sslmode; unset is `verify-full`, on loopback `disable`"
    )

    ca_file: AbsolutePath | None = variable(
        "WORKBENCH_WAREHOUSE_CA_FILE",
        None,
        "PEM file of the authority that signed the warehouse's certificate; unset trusts the system's authorities",
    )
    dialect: Literal["postgresql", "duckdb", "redshift"] = variable(
        "WORKBENCH_WAREHOUSE_DIALECT", "postgresql", "what flows write to: `postgresql`, `duckdb` or `redshift`"
    )
    file: AbsolutePath | None = variable(
        "WORKBENCH_WAREHOUSE_FILE",
        None,
        "DuckDB: the encrypted file; unset is `warehouse/workbench.duckdb` under WORKBENCH_HOME",
    )
    key_file: AbsolutePath | None = variable(
        "WORKBENCH_WAREHOUSE_KEY_FILE",
        None,
        "DuckDB: the file with the encryption key, made when there is none; unset is `keys/duckdb-key` under WORKBENCH_HOME",
    )
    key: str = variable(
        "WORKBENCH_WAREHOUSE_KEY",
        "",
        "DuckDB: where the encryption key is instead of in that file: `keyset:NAME`, made when there is none, or `vault:MOUNT/PATH#FIELD`",
    )
    encrypt_dead_letters: bool = variable(
        "WORKBENCH_WAREHOUSE_ENCRYPT_DEAD_LETTERS",
        True,
        "encrypt what dead letters hold of records with the keyset, which is made when there is none; DuckDB's file is encrypted as a whole",
    )
    staging_url: str = variable(
        "WORKBENCH_WAREHOUSE_STAGING_URL", "", "Redshift: `s3://bucket/prefix` where files wait to be copied"
    )
    iam_role: str = variable(
        "WORKBENCH_WAREHOUSE_IAM_ROLE",
        "",
        "Redshift: ARN of the role with which the cluster reads those files, or `default`",
    )

    _place: tuple[Path, KeysSettings] | None = PrivateAttr(None)

    def problems(self) -> list[str]:
        """What contradicts itself inside the section, one sentence with its remedy each."""
        needed = {"DW_USER": self.user, "DW_PASSWORD": self.password.get_secret_value()}
        found = [
            f"DW_HOST is set but {name} is not. Set {name}, or unset DW_HOST to use the embedded warehouse."
            for name, value in needed.items()
            if self.host and not value
        ]
        if not self.host and (self.sslmode or self.ca_file):
            found.append(
                "WORKBENCH_WAREHOUSE_SSLMODE and WORKBENCH_WAREHOUSE_CA_FILE are for an external warehouse. Set DW_HOST or unset them."
            )
        if not self.host and self.user == EMBEDDED_SUPERUSER:
            found.append(
                f"DW_USER is {self.user}, which is the superuser of the embedded warehouse. Choose another name, or set DW_HOST."
            )
        if self.ca_file and not self.ca_file.is_file():
            found.append(f"WORKBENCH_WAREHOUSE_CA_FILE: there is no file {self.ca_file}. Give the path of a PEM file.")
        return found + self._dialect_problems()

    @property
    def effective_sslmode(self) -> str:
        """The sslmode in force: what was set, else encrypted and verified but on loopback."""
        return self.sslmode or ("disable" if is_loopback(self.host) else "verify-full")

    def at(self, home: Path, keys: KeysSettings | None = None) -> Self:
        """The same with the files of DuckDB named, for a workbench at *home*; other dialects have none.

        Args:
            home: WORKBENCH_HOME.
            keys: of the same workbench, for a `key` in its keyset or in its Vault.
        """
        if self.dialect != "duckdb":
            return self
        file = self.file or home / "warehouse" / "workbench.duckdb"
        found = self.model_copy(update={"file": file, "key_file": self.key_file or home / "keys" / "duckdb-key"})
        found._place = (home, keys or KeysSettings())  # noqa: SLF001 - of our own class
        return found

    @property
    def key_place(self) -> tuple[Path, KeysSettings]:
        """Where the keyset is, and the settings of it and of Vault, for a `key` that is there."""
        assert self._place is not None, "the settings have been given a place"
        return self._place

    def _dialect_problems(self) -> list[str]:
        found = []
        for name, dialect in (
            ("file", "duckdb"),
            ("key_file", "duckdb"),
            ("key", "duckdb"),
            ("staging_url", "redshift"),
            ("iam_role", "redshift"),
        ):
            variable = type(self).model_fields[name].validation_alias
            if getattr(self, name) and self.dialect != dialect:
                found.append(f"{variable} is for {dialect}. Set WORKBENCH_WAREHOUSE_DIALECT={dialect}, or unset it.")
            elif dialect == "redshift" == self.dialect and not getattr(self, name):
                found.append(f"WORKBENCH_WAREHOUSE_DIALECT is redshift but {variable} is not set. Set it.")
        if self.key and not self.key.startswith(("keyset:", "vault:")):
            # It is not shown: somebody may have put the key itself there.
            found.append("WORKBENCH_WAREHOUSE_KEY is no reference. Write keyset:NAME or vault:MOUNT/PATH#FIELD.")
        if self.dialect == "redshift" and not self.host:
            found.append("WORKBENCH_WAREHOUSE_DIALECT is redshift but DW_HOST is not set. Set it.")
        if self.staging_url and not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]+(/[^?#\s']*)?", self.staging_url):
            # The address is not shown: somebody may have put access keys into it.
            found.append("WORKBENCH_WAREHOUSE_STAGING_URL is not s3://bucket/prefix. Write it so, without keys.")
        if self.iam_role and not re.fullmatch(r"default|arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]+", self.iam_role):
            found.append(
                f"WORKBENCH_WAREHOUSE_IAM_ROLE: {self.iam_role!r} is no ARN of a role. Write arn:aws:iam::123456789012:role/name, or default."
            )
        return found


class PipelinesSettings(Section):
    """Where pipelines keep their runs, and whom they tell of lineage; without a URL runs are in the warehouse, when it is a PostgreSQL."""

    database_url: SecretStr = variable(
        "WORKBENCH_PIPELINES_DATABASE_URL",
        SecretStr(""),
        "`postgresql://role:password@host:port/database` that holds the runs of pipelines; unset is the warehouse",
    )
    ca_file: AbsolutePath | None = variable(
        "WORKBENCH_PIPELINES_CA_FILE",
        None,
        "PEM file of the authority that signed its certificate; unset trusts the system's authorities",
    )
    lineage_file: AbsolutePath | None = variable(
        "WORKBENCH_PIPELINES_LINEAGE_FILE", None, "file to which events of OpenLineage are appended, one JSON a line"
    )
    lineage_url: str = variable(
        "WORKBENCH_PIPELINES_LINEAGE_URL",
        "",
        "where events of OpenLineage are posted instead, such as `https://marquez.example.com/api/v1/lineage`",
    )
    lineage_token: SecretStr = variable(
        "WORKBENCH_PIPELINES_LINEAGE_TOKEN", SecretStr(""), "bearer token for that URL; unset sends none"
    )
    lineage_namespace: str = variable(
        "WORKBENCH_PIPELINES_LINEAGE_NAMESPACE", "workbench", "namespace of the jobs in those events"
    )

    encrypt_outputs: bool = variable(
        "WORKBENCH_PIPELINES_ENCRYPT_OUTPUTS",
        True,
        "encrypt logs and output notebooks of runs with the keyset, which is made when there is none",
    )
    service_url: str = variable(
        "WORKBENCH_PIPELINES_SERVICE_URL",
        "",
        "where panels reach the page of pipelines, such as `https://hub.example.com/services/pipelines/`; the hub sets it for users' servers",
    )
    service_token: SecretStr = variable(
        "JUPYTERHUB_API_TOKEN",
        SecretStr(""),
        "token of the hub that panels send there; JupyterHub sets it for users' servers",
    )
    run_as: CommaSeparated = variable(
        "WORKBENCH_PIPELINES_RUN_AS",
        (),
        "who may be `run_as` of which pipeline: `daily-delays=gh-octo,*=reports`, with `*` for every pipeline; unset is nobody",
    )
    require_run_as: bool = variable(
        "WORKBENCH_PIPELINES_REQUIRE_RUN_AS",
        False,
        "refuse pipelines without `run_as`, whose steps would connect to the warehouse as `DW_USER`",
    )
    without_run_as: CommaSeparated = variable(
        "WORKBENCH_PIPELINES_WITHOUT_RUN_AS",
        (),
        "pipelines that may run without it all the same, such as those that write tables: `load,marts`; unset is none",
    )
    tables_file: AbsolutePath | None = variable(
        "WORKBENCH_PIPELINES_TABLES_FILE",
        None,
        "file to which a notebook's functions append which tables they touch; whoever runs a step sets it",
    )

    @property
    def tells_lineage(self) -> bool:
        """Whether somebody is told of lineage."""
        return self.lineage_file is not None or bool(self.lineage_url)

    def problems(self) -> list[str]:
        """What contradicts itself inside the section, one sentence with its remedy each."""
        found = self._lineage_problems()
        service = urlsplit(self.service_url)
        if self.service_url and (service.scheme not in {"http", "https"} or not service.hostname):
            found.append("WORKBENCH_PIPELINES_SERVICE_URL is no URL of http or https. Correct or unset it.")
        elif service.scheme == "http" and not is_loopback(service.hostname or ""):
            found.append(
                "WORKBENCH_PIPELINES_SERVICE_URL would send a token of the hub in clear. Use https, or an address of this machine."
            )
        for each in self.run_as:
            pipeline, _, identity = (part.strip() for part in each.partition("="))
            if not pipeline or not identity:
                found.append(f"WORKBENCH_PIPELINES_RUN_AS has {each!r}. Write pipeline=identity, or *=identity.")
        if self.without_run_as and not self.require_run_as:
            found.append(
                "WORKBENCH_PIPELINES_WITHOUT_RUN_AS names exceptions, and no pipeline has to have run_as. "
                "Set WORKBENCH_PIPELINES_REQUIRE_RUN_AS, or unset it."
            )
        if self.database_url.get_secret_value():
            found += self._address_problems()
        elif self.ca_file:
            found.append(
                "WORKBENCH_PIPELINES_CA_FILE is set but WORKBENCH_PIPELINES_DATABASE_URL is not. Set it, or unset the other."
            )
        if self.ca_file and not self.ca_file.is_file():
            found.append(f"WORKBENCH_PIPELINES_CA_FILE: there is no file {self.ca_file}. Give the path of a PEM file.")
        return found

    def as_warehouse(self, warehouse: WarehouseSettings) -> WarehouseSettings:
        """How to reach the store, in the form in which a warehouse is told; *warehouse* itself without a URL.

        Raises:
            ValueError: when the URL is one that `problems` complains of.
        """
        if not self.database_url.get_secret_value():
            return warehouse
        address = self._address()
        return warehouse.model_copy(
            update={
                "dialect": "postgresql",
                "host": address.hostname or "",
                "port": address.port or 5432,
                "database": unquote(address.path.removeprefix("/")),
                "user": unquote(address.username or ""),
                "password": SecretStr(unquote(address.password or "")),
                "sslmode": parse_qs(address.query).get("sslmode", [None])[0],
                "ca_file": self.ca_file,
            }
        )

    def _lineage_problems(self) -> list[str]:
        name = "WORKBENCH_PIPELINES_LINEAGE_URL"
        has_token = bool(self.lineage_token.get_secret_value())
        if not self.lineage_url:
            missing = f"WORKBENCH_PIPELINES_LINEAGE_TOKEN is set but {name} is not. Set it, or unset the other."
            return [missing] if has_token else []
        if self.lineage_file is not None:
            return [f"{name} and WORKBENCH_PIPELINES_LINEAGE_FILE are both set. Unset one of them."]
        try:
            address = urlsplit(self.lineage_url)
            host = address.hostname or ""
        except ValueError:
            host = ""
        # A login within the address would be in logs.
        if not host or address.scheme not in {"http", "https"} or address.username is not None:
            return [f"{name} is no address. Write https://host/api/v1/lineage, without a login in it."]
        if has_token and address.scheme == "http" and not is_loopback(host):
            return [f"{name} would carry the token in clear. Write https://."]
        return []

    def _address(self) -> SplitResult:
        return urlsplit(self.database_url.get_secret_value())

    def _address_problems(self) -> list[str]:
        # The address holds a password, so no part of it is shown.
        name, form = "WORKBENCH_PIPELINES_DATABASE_URL", "Write postgresql://role:password@host:5432/database."
        try:
            address = self._address()
            host, _ = address.hostname or "", address.port
            options = parse_qs(address.query, strict_parsing=bool(address.query))
        except ValueError:
            return [f"{name} is no address. {form}"]
        if address.scheme not in {"postgresql", "postgres"} or not host or not address.path.strip("/"):
            return [f"{name} is not the address of a database in PostgreSQL. {form}"]
        if not address.username or not address.password:
            return [f"{name} lacks the role or its password. {form}"]
        modes = options.pop("sslmode", ["verify-full"])
        if options or len(modes) > 1 or modes[0] not in SSL_MODES:
            return [f"{name} may end in ?sslmode= and one of {', '.join(SSL_MODES)}, and in nothing else. Correct it."]
        if modes == ["disable"] and not is_loopback(host):
            return [f"{name} has sslmode=disable, but is not on this machine. Use verify-full."]
        return []
