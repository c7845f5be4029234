"""What the policies say of a flow's columns: which are encrypted by subject, and whether that can be done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pyarrow as pa

from workbench.errors import SettingsError
from workbench.ingestion.decoding import Decoder
from workbench.ingestion.decoding.contract import Contract
from workbench.ingestion.definition import Flow
from workbench.ingestion.protection import ProtectingDecoder
from workbench.loading import Warehouse
from workbench.resources import resource
from workbench.security.keyset.opening import Keys
from workbench.security.policies.reading import read_policies
from workbench.security.subjects.columns import EncryptedColumns
from workbench.security.subjects.keys import SubjectKeys
from workbench.settings import Settings
from workbench.warehouse.protected import settle_protected

SUBJECTS = (pa.string(), pa.int16(), pa.int32(), pa.int64())  #: types that flow and warehouse write alike
MakeDecoder = Callable[[pa.Schema], Decoder]


@dataclass(frozen=True)
class Protection:
    """What a flow has to do for the columns that are encrypted in its table."""

    make_decoder: MakeDecoder  #: whose decoders encrypt what the policies say
    #: Called before anything is written; raises WarehouseError when the table was encrypted otherwise before.
    settle: Callable[[], None]


def read_rules(settings: Settings, flow: Flow) -> tuple[EncryptedColumns, ...]:
    """What the policies want encrypted in the table of *flow*.

    Raises:
        PoliciesRefused: when the file of policies is wrong: what it asks for is not known then.
        SettingsError: when the flow cannot encrypt.
    """
    table, file = flow.stands_for or flow.into, settings.policies.file or resource("pipelines") / "policies.yaml"
    if settings.policies.file is None and not file.is_file():
        return ()  # what was encrypted before is refused all the same
    data = read_policies(file).file.data.get(table)
    if data is None or not data.encrypt:
        return ()
    rules = tuple(
        EncryptedColumns(table=table, kind=kind, subject=data.subjects[kind], columns=columns)
        for kind, columns in data.encrypt.items()
    )
    if problems := _flow_problems(settings, flow, rules):
        raise SettingsError([f"{flow.name}: {table} has columns that are encrypted. {each}" for each in problems])
    return rules


def protecting(
    settings: Settings, flow: Flow, columns: pa.Schema, warehouse: Warehouse, make: MakeDecoder
) -> Protection:
    """What the policies want of a flow whose decoders *make* gives. The warehouse is not asked yet.

    Raises:
        As `read_rules`.
        SettingsError: when a column is of another type than it takes.
        KeysetError, EncryptionError: when the keyset cannot be used.
    """
    rules = read_rules(settings, flow)
    if problems := [each for rule in rules for each in _column_problems(flow, columns, rule)]:
        raise SettingsError([f"{flow.name}: {each}" for each in problems])
    if settings.warehouse.dialect != "postgresql":
        return Protection(make, lambda: None)  # `read_rules` has refused what would be encrypted there
    subjects, identifier = None, ""
    if rules:
        keys = Keys.of(settings.home, settings.keys)
        keys.ensure()
        identifier = keys.file.read().id.hex()
        subjects = SubjectKeys(settings.home, keys)
    table = flow.stands_for or flow.into

    def settle() -> None:
        with warehouse.transaction() as connection:
            settle_protected(connection, table, rules, identifier)

    return Protection(make if subjects is None else partial(_make, make, rules, subjects), settle)


def _make(make: MakeDecoder, rules: tuple[EncryptedColumns, ...], subjects: SubjectKeys, table: pa.Schema) -> Decoder:
    return ProtectingDecoder(make(table), rules, subjects)


def _flow_problems(settings: Settings, flow: Flow, rules: tuple[EncryptedColumns, ...]) -> list[str]:
    found = []
    if flow.engine != "arrow":
        found.append(f"Engine {flow.engine} does not encrypt them: its executors have no keys. Use engine arrow.")
    if settings.warehouse.dialect != "postgresql":
        found.append(f"That is for PostgreSQL, and the warehouse is {settings.warehouse.dialect}: take `encrypt` out.")
    named = {column for rule in rules for column in rule.columns}
    if keys := sorted(named.intersection(flow.key)):
        found.append(f"Its key has {', '.join(keys)}, and what is encrypted is never equal: take another key.")
    return found


def _column_problems(flow: Flow, columns: pa.Schema, rule: EncryptedColumns) -> list[str]:
    found = [
        f"column {name} is encrypted, which is for text, and is {columns.field(name).type}. Declare it as string."
        for name in rule.columns
        if name in columns.names and columns.field(name).type != pa.string()
    ]
    if rule.subject not in columns.names:
        return [*found, f"column {rule.subject} is missing, which says whose keys encrypt {', '.join(rule.columns)}."]
    kind = columns.field(rule.subject).type
    if kind not in SUBJECTS:
        found.append(f"column {rule.subject} is {kind}, and says whose key it is: declare it as string, or an integer.")
    elif flow.contract is Contract.EVOLVE and kind != pa.string():
        found.append(
            f"column {rule.subject} is {kind}, which contract evolve may widen, and it says whose key it is. Declare it as string, or take another contract."
        )
    return found
