"""Rows to records: what every format has in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from workbench.errors import KafkaError
from workbench.ingestion.encoding.json import JsonEncoder
from workbench.ingestion.encoding.rows import Row, Rows, Unfit, read_rows
from workbench.ingestion.producer import OutgoingRecord

FORMATS = ("json", "avro", "protobuf")

Encrypt = Mapping[str, Callable[[object], object]]  # by field: a value to what is sent in its place


class Encoder(Protocol):
    """Makes the value of a record."""

    format: str

    def encode(self, row: Row) -> bytes:
        """The bytes of one row; raises Unfit when there are none."""


def make_encoder(kind: str, topic: str, registry: Any = None, *, schema: Any = None, register: bool = False) -> Encoder:
    """The encoder of one of FORMATS.

    Args:
        kind: `json`, `avro` or `protobuf`.
        topic: whose values are encoded; the schema's subject is `<topic>-value`.
        registry: a `decoding.registry.SchemaRegistry`; JSON needs none.
        schema: an Avro schema, as a mapping or JSON text, or a class of Protobuf messages; None
            takes the newest that is registered for the topic.
        register: whether *schema* may be registered when it is not there.

    Raises:
        KafkaError: when there is no such format or schema, or the registry refuses or does not answer.
    """
    from workbench.ingestion.encoding import avro, protobuf

    if kind == "json":
        return JsonEncoder()
    makers: dict[str, Callable[..., Encoder]] = {"avro": avro.make_encoder, "protobuf": protobuf.make_encoder}
    if kind not in makers:
        raise KafkaError(f"there is no format {kind!r}", remedy=f"Choose among {', '.join(FORMATS)}.")
    if register and schema is None:
        raise KafkaError("register=True needs a schema to register", remedy="Give schema=…")
    return makers[kind](registry, f"{topic}-value", schema, register=register)


def encode_rows(
    rows: Rows, key: str | None = None, *, encoder: Encoder | None = None, encrypt: Encrypt | None = None
) -> Iterator[OutgoingRecord]:
    """One record for each row, in their order.

    Args:
        rows: mappings, a pandas DataFrame or a pyarrow Table.
        key: the field whose value, as text, is the record's key; null is no key.
        encoder: makes the values; JSON when None.
        encrypt: a function for each named field, whose result is sent in place of the value.

    Raises:
        KafkaError: when a value does not fit the format, naming row, field and type, or a row
            lacks the field of the key.
    """
    encoder = encoder or JsonEncoder()
    for number, row in enumerate(read_rows(rows)):
        try:
            record_key = None if key is None or row[key] is None else str(row[key]).encode()
            sent = row if not encrypt else {**row, **{name: hide(row[name]) for name, hide in encrypt.items()}}
        except KeyError as error:
            raise KafkaError(f"row {number} has no field {error}", remedy="Give that field in every row.") from None
        try:
            value = encoder.encode(sent)
        except Unfit as error:
            raise _unfit(encoder.format, number, sent, error) from None
        yield OutgoingRecord(value, record_key)


def _unfit(kind: str, number: int, row: Row, error: Unfit) -> KafkaError:
    name = error.field.partition(".")[0]
    given = f"of type {type(row[name]).__name__}" if name in row else "is missing"
    where = f"field {error.field} {given}: " if name else ""
    remedy = "Give values that JSON knows." if kind == "json" else "Give the fields of the schema, of their types."
    return KafkaError(f"row {number} cannot be sent as {kind}: {where}{error.reason[:200]}", remedy=remedy)
