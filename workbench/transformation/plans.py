"""Which plans of Spark Connect may be run a second time: those that only read.

What is not known to be harmless may write. The protocol is that of PySpark 4.2.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from google.protobuf.message import Message  # type: ignore[import-untyped]
from pyspark.sql.connect import proto

READING = frozenset({
    *("read", "project", "filter", "join", "set_op", "sort", "limit", "aggregate", "sql", "local_relation", "sample"),
    *("offset", "deduplicate", "range", "subquery_alias", "repartition", "to_df", "with_columns_renamed", "show_string"),
    *("drop", "tail", "with_columns", "hint", "unpivot", "to_schema", "repartition_by_expression", "html_string"),
    *("parse", "as_of_join", "with_relations", "transpose", "lateral_join", "fill_na", "drop_na", "replace", "summary"),
    "map_partitions",
    *("crosstab", "describe", "cov", "corr", "approx_quantile", "freq_items", "sample_by", "collect_metrics"),
})  # fmt: skip
COMPUTING = frozenset({
    *("literal", "unresolved_attribute", "unresolved_function", "expression_string", "unresolved_star", "alias"),
    *("cast", "unresolved_regex", "sort_order", "lambda_function", "window", "unresolved_extract_value"),
    *("update_fields", "unresolved_named_lambda_variable", "call_function", "named_argument_expression"),
    "subquery_expression",
})  # fmt: skip
FORMATS = frozenset(
    {"", "avro", "binaryfile", "csv", "json", "kafka", "orc", "parquet", "rate", "text", "workbench", "xml"}
)
TABLE = "WorkbenchRead"  # the function of `workbench.load_table`
QUERY = re.compile(r"\s*(\(\s*)*(select|with|values|from|table|show|describe|desc|explain)\b", re.IGNORECASE)
WRITING = re.compile(
    r"\b(insert|update|delete|merge|create|replace\s+table|drop|alter|truncate|cache|call)\b", re.IGNORECASE
)
# They call any Java method.
CALLS = re.compile(r"\b(java_method|reflect|try_reflect)\b", re.IGNORECASE)


def is_read(plan: proto.Plan) -> bool:
    """Whether running *plan* again cannot do anything twice: a relation of known parts, without functions of users."""
    if plan.WhichOneof("op_type") != "root":
        return False
    return _is_harmless(plan.root)


def _is_harmless(message: Message) -> bool:
    kind = message.DESCRIPTOR.name
    if kind == "Relation" and message.WhichOneof("rel_type") not in READING:
        return False
    if kind == "Expression" and message.WhichOneof("expr_type") not in COMPUTING:
        return False
    check = CHECKS.get(kind)
    if check and not check(message):
        return False
    return all(_is_harmless(each) for each in _children(message))


def _children(message: Message) -> list[Message]:
    found: list[Any] = []
    for field, value in message.ListFields():
        if field.type != field.TYPE_MESSAGE:
            continue
        if isinstance(value, Message):
            found.append(value)
        elif hasattr(value, "values"):  # a map
            found += [each for each in value.values() if isinstance(each, Message)]
        else:
            found += list(value)
    return found


def _reads_source(source: Any) -> bool:
    form = source.format.lower()
    options = {key.lower(): value for key, value in source.options.items()}
    # A table's name is a read; a query may call what it likes at the database.
    if form == "workbench" and options.get("query"):
        return False
    if form == "jdbc":
        odd = {"query", "preparequery", "sessioninitstatement"} & set(options)
        return not odd and re.fullmatch(r'[\w."]+', options.get("dbtable", "")) is not None
    return form in FORMATS


def _is_query(text: str) -> bool:
    return bool(QUERY.match(text)) and not WRITING.search(text) and not CALLS.search(text)


CHECKS: dict[str, Callable[[Any], bool]] = {
    "DataSource": _reads_source,
    "MapPartitions": lambda message: message.func.function_name == TABLE,
    "SQL": lambda message: _is_query(message.query),
    "ExpressionString": lambda message: CALLS.search(message.expression) is None,
    "UnresolvedFunction": lambda message: CALLS.search(message.function_name) is None,
    "CallFunction": lambda message: CALLS.search(message.function_name) is None,
}
