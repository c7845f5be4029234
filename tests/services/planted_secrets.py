"""Twenty canaries as secrets of one pipeline, five behind each kind of reference, and steps that show each in its own way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from tests.services.canaries import new_canary
from tests.services.key_services import TOKEN, KeyService, running_key_service
from tests.services.pipelines_project import Site
from workbench.sections import KeysSettings
from workbench.security.kept_secrets import KeptSecrets
from workbench.security.keyset.opening import Keys

SCHEMES = ("env", "file", "keyset", "vault")
OF_NOTEBOOK, OF_FUNCTION = ([f"{kind}{number}" for number in range(8)] for kind in "nf")
OF_SQL = [f"q{number}" for number in range(4)]
NAMES = (*OF_NOTEBOOK, *OF_FUNCTION, *OF_SQL)
SHOWS = (
    "import base64, json, sys, urllib.parse",
    "print({0})",
    "print(repr({1}))",
    "print(base64.b64encode(b'u:' + {2}.encode()).decode())",
    "print(urllib.parse.quote({3}, safe=''), urllib.parse.quote_plus({3}))",
    "print({4}, file=sys.stderr)",
    "print({5}.encode().hex())",
    "print(json.dumps({6}))",
    "raise ValueError({7})",
)
# The details of an error have the row; PostgreSQL's own log has its first line alone.
STATEMENTS = """CREATE TEMP TABLE shown (a text, b text, c text, d text, CHECK (a = ''));
INSERT INTO shown VALUES (:q0, :q1, encode(convert_to(:q2, 'UTF8'), 'base64'), encode(convert_to(:q3, 'UTF8'), 'hex'));
"""
# A step of SQL takes no secrets. This asks as one does.
ASKS = f"""from workbench.querying.scanner import parse_statements
from workbench.settings import Settings
from workbench.warehouse.queries import run_statements

def ask(q0: "secret", q1: "secret", q2: "secret", q3: "secret") -> None:
    statements = parse_statements({STATEMENTS!r}, "postgresql")
    list(run_statements(Settings.load().warehouse, statements, locals(), limit=0))
"""


@dataclass(frozen=True)
class Planted:
    """Where each canary is: all places are outside of the site's folder, but for the keyset."""

    folder: Path
    vault: KeyService
    canaries: Mapping[str, str]  #: by the name of the parameter

    @property
    def variables(self) -> dict[str, str]:
        """What a worker needs to read them."""
        found = {f"CANARY_{name}": each for name, each in self.canaries.items() if scheme_of(name) == "env"}
        token = str(self.folder / "token")
        return {
            **found,
            "WORKBENCH_KEYS_VAULT_ADDRESS": self.vault.address,
            "WORKBENCH_KEYS_VAULT_TOKEN_FILE": token,
        }

    @property
    def references(self) -> dict[str, str]:
        """What stands in a pipeline, by the name of the parameter."""
        return {name: self._reference(name) for name in self.canaries}

    def _reference(self, name: str) -> str:
        wheres = {
            "env": f"CANARY_{name}",
            "file": str(self.folder / name),
            "keyset": f"of-{name}",
            "vault": f"secret/team#{name}",
        }
        return f"{scheme_of(name)}:{wheres[scheme_of(name)]}"

    def keep(self, site: Site) -> None:
        """Those of the site's keyset."""
        kept = KeptSecrets.of(site.home, Keys.of(site.home, KeysSettings()))
        for name, each in self.canaries.items():
            if scheme_of(name) == "keyset":
                kept.set(f"of-{name}", SecretStr(each))


def scheme_of(name: str) -> str:
    """The kind of reference of a parameter: another one for the same way of showing in notebook and function."""
    number = NAMES.index(name)
    return SCHEMES[(number + number // len(OF_NOTEBOOK)) % len(SCHEMES)]


@contextmanager
def planted_secrets(folder: Path) -> Iterator[Planted]:
    """Plant them below *folder*, and in a Vault."""
    with running_key_service() as vault:
        planted = Planted(folder, vault, {name: new_canary() for name in NAMES})
        vault.kept["secret/data/team"] = {
            name: each for name, each in planted.canaries.items() if scheme_of(name) == "vault"
        }
        for name in ("token", *(each for each in NAMES if scheme_of(each) == "file")):
            path = folder / name
            path.touch(0o600)
            path.write_text(planted.canaries.get(name, TOKEN), encoding="utf-8")
        yield planted


def make_steps(site: Site, planted: Planted, waits_for: Path) -> Path:
    """The pipelines `planted`, with a notebook and functions, one with SQL, that show the canaries, and `planted-env`, which any target takes.

    The notebook carries something else in a checkpoint, and waits for a file before it fails.

    Returns:
        The file in which the notebook writes the runtime folder of its kernel.
    """
    told = waits_for.with_name("kernel")
    looks = (
        "# checkpoint: carried",
        "import ipykernel.connect, pathlib, time",
        "carried, folder = ['carried'], pathlib.Path(ipykernel.connect.get_connection_file()).parent",
        f"print(folder, end='', file=open({str(told)!r}, 'w'))",
        f"while not pathlib.Path({str(waits_for)!r}).exists(): time.sleep(0.05)",
    )
    *shows, fails = (each.format(*OF_NOTEBOOK) for each in SHOWS)
    declared = "\n".join(f"{name} = None  # type: secret" for name in OF_NOTEBOOK)
    site.notebook("planted", declared, "\n".join(shows), "\n".join(looks), fails, tags=["parameters"])
    takes = ", ".join(f'{name}: "secret"' for name in OF_FUNCTION)
    body = "\n    ".join(each.format(*OF_FUNCTION) for each in SHOWS)
    site.module("steps_planted", f"def show({takes}) -> None:\n    {body}\n\n{ASKS}")
    steps = {
        "n": {"notebook": "notebooks/planted.ipynb", "checkpoints": ["c2"], "parameters": given(OF_NOTEBOOK)},
        "f": {"function": "steps_planted:show", "parameters": given(OF_FUNCTION)},
        "q": {"function": "steps_planted:ask", "parameters": given(OF_SQL)},
    }
    for name, references in {
        "planted": planted.references,
        "planted-env": {name: f"env:CANARY_{name}" for name in NAMES},
    }.items():
        parameters = {name: {"type": "secret", "default": each} for name, each in references.items()}
        site.pipeline(name, parameters=parameters, steps=steps)
    return told


def given(names: Sequence[str]) -> dict[str, str]:
    return {name: f"${{{name}}}" for name in names}
