"""Columns that tell less about a person: pseudonyms, last characters, coarse times, nothing.

None of it makes a table anonymous. A pseudonym still belongs to a person (GDPR, article 4(5)): who has
the secret can compute that of any known value, and rows of one person stay together. Last
characters and months of birth single people out as soon as a few columns are combined.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from pydantic import SecretStr

from workbench.transformation.steps.frames import OWN, column, field_of, refuse, unknown_columns

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession
    from pyspark.sql.types import StructField

STEP = "mask"
BLOCK_BYTES = 64  # of SHA-256, as HMAC pads its key (RFC 2104)
LEAST_SECRET_BYTES = 16  # a shorter secret can be tried out
# What has one text only; that of a double or of a timestamp depends on version or time zone.
HASHED_KINDS = ("string", "binary", "tinyint", "smallint", "int", "bigint", "date", "boolean")
UNITS = ("year", "quarter", "month", "week", "day", "hour")
DATE_UNITS = UNITS[:4]


@dataclass(frozen=True)
class Hashed:
    """A pseudonym: HMAC-SHA256 of the value under a secret, in hexadecimal. Equal values have equal ones.

    Attributes:
        secret: of at least 16 bytes, better 32 random ones. Without it nobody can try out values.
        purpose: pseudonyms of different purposes cannot be joined without the secret.
    """

    secret: SecretStr = field(repr=False)
    purpose: str = ""

    def problem(self, kind: str) -> str:
        """What is wrong with using it on a column of *kind*; nothing when it can be used."""
        if not hasattr(self.secret, "get_secret_value"):
            return "the secret is no SecretStr, and would show in errors"
        if len(self.secret.get_secret_value().encode()) < LEAST_SECRET_BYTES:
            return f"the secret has fewer than {LEAST_SECRET_BYTES} bytes"
        return (
            ""
            if kind in HASHED_KINDS
            else f"the text of a {kind} is not always the same; cast it to string as you mean it"
        )

    @property
    def pads(self) -> tuple[bytes, bytes]:
        """The inner and the outer padded key of HMAC."""
        key = _hmac_key(self.secret, self.purpose)
        key = (hashlib.sha256(key).digest() if len(key) > BLOCK_BYTES else key).ljust(BLOCK_BYTES, b"\0")
        return bytes(byte ^ 0x36 for byte in key), bytes(byte ^ 0x5C for byte in key)


@dataclass(frozen=True)
class LastCharacters:
    """`***` and the last *count* characters; only `***` when there are no more than those."""

    count: int

    def problem(self, kind: str) -> str:
        """What is wrong with using it on a column of *kind*."""
        if self.count < 1:
            return "the number of characters is less than 1; use Removed"
        return "" if kind == "string" else f"it is {kind}, not string"

    def apply(self, value: Column, kind: str) -> Column:
        """The masked column."""
        from pyspark.sql import functions as sf

        kept = sf.when(sf.length(value) > self.count, sf.right(value, sf.lit(self.count))).otherwise("")
        return sf.when(value.isNotNull(), sf.concat(sf.lit("***"), kept))


@dataclass(frozen=True)
class Removed:
    """Null, with the type of the column. The only rule that leaves nothing."""

    def problem(self, kind: str) -> str:
        """Nothing: every column can be null."""
        return ""

    def apply(self, value: Column, kind: str) -> Column:
        """The masked column."""
        from pyspark.sql import functions as sf

        return sf.lit(None).cast(kind)


@dataclass(frozen=True)
class Truncated:
    """A date or timestamp cut off to the beginning of its unit, in the time zone of the session."""

    unit: Literal["year", "quarter", "month", "week", "day", "hour"]

    def problem(self, kind: str) -> str:
        """What is wrong with using it on a column of *kind*."""
        units = {"date": DATE_UNITS, "timestamp": UNITS, "timestamp_ntz": UNITS}.get(kind)
        if units is None:
            return f"it is {kind}, neither date nor timestamp"
        return "" if self.unit in units else f"{self.unit!r} is none of {', '.join(units)}"

    def apply(self, value: Column, kind: str) -> Column:
        """The masked column."""
        from pyspark.sql import functions as sf

        return (sf.trunc(value, self.unit) if kind == "date" else sf.date_trunc(self.unit, value)).cast(kind)


Rule = Hashed | LastCharacters | Removed | Truncated


def mask(frame: DataFrame, rules: Mapping[str, Rule]) -> DataFrame:
    """The frame with the columns that *rules* name masked. Works on streams.

    Null stays null. All other columns stay as they are: choose columns first, with `conform`, where
    new ones may appear. Secrets are in no text of a plan: they are in a table of one row that is
    joined, not in literals, and Spark's own functions compute HMAC. They are in the memory of driver
    and executors, and in what a Connect client sends to its server.

    Args:
        frame: the rows, or a stream.
        rules: what to do with which column.

    Raises:
        StepRefused: with all columns that are not there or do not fit their rule.

    Example:
        >>> customers.transform(mask, {"email": Hashed(secret), "card": LastCharacters(4), "born": Truncated("year")})
    """
    problems = unknown_columns(frame, rules)
    kinds = {} if problems else {name: field_of(frame, name).dataType.simpleString() for name in rules}
    problems += [f"{name}: {told}" for name, kind in kinds.items() if (told := rules[name].problem(kind))]
    refuse(STEP, problems, remedy="Give each column a rule that fits its type.")

    pads = list(dict.fromkeys(rule.pads for rule in rules.values() if isinstance(rule, Hashed)))
    joined = frame.crossJoin(_keys(frame.sparkSession, pads)) if pads else frame
    return joined.select(*(_masked(each, rules.get(each.name), pads) for each in frame.schema.fields))


def _masked(source: StructField, rule: Rule | None, pads: Sequence[tuple[bytes, bytes]]) -> Column:
    value, kind = column(source.name), source.dataType.simpleString()
    if rule is None:
        return value
    masked = _hashed(value, kind, pads.index(rule.pads)) if isinstance(rule, Hashed) else rule.apply(value, kind)
    return masked.alias(source.name)


def _hashed(value: Column, kind: str, number: int) -> Column:
    """HMAC-SHA256 by its definition (RFC 2104), which native functions compute without a Python worker."""
    from pyspark.sql import functions as sf

    inner, outer = sf.col(f"{OWN}inner{number}"), sf.col(f"{OWN}outer{number}")
    # Bytes that are no UTF-8 would become the same text.
    plain = value if kind == "binary" else value.cast("string").cast("binary")
    digest = sf.unhex(sf.sha2(sf.concat(inner, plain), 256))
    return sf.sha2(sf.concat(outer, digest), 256)


def _keys(spark: SparkSession, pads: Sequence[tuple[bytes, bytes]]) -> DataFrame:
    """One row with the padded keys. A literal would show in `explain` and in the logs of plans; rows do not."""
    from pyspark.sql import functions as sf
    from pyspark.sql.types import BinaryType, StructField, StructType

    names = [f"{OWN}{pad}{number}" for number in range(len(pads)) for pad in ("inner", "outer")]
    schema = StructType([StructField(name, BinaryType(), nullable=False) for name in names])
    return sf.broadcast(spark.createDataFrame([tuple(pad for pair in pads for pad in pair)], schema))


def pseudonym(value: str, secret: SecretStr, purpose: str = "") -> str:
    """What `Hashed` makes of *value*: to find the rows of a known person, or to check it elsewhere."""
    return hmac.new(_hmac_key(secret, purpose), value.encode(), hashlib.sha256).hexdigest()


def _hmac_key(secret: SecretStr, purpose: str) -> bytes:
    key = secret.get_secret_value().encode()
    return hmac.digest(key, purpose.encode(), "sha256") if purpose else key
