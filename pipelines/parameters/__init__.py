"""Parameters of pipelines: their types, how values are written, kept and injected, and what is wrong with them.

A value goes from text (command line, form) to Python, to JSON (the store), back to Python, and into
the source of the injected cell; it is the same value all the way. No value is ever read as code.
"""

from pipelines.parameters.cell import read_cell
from pipelines.parameters.declared import REQUIRED, Parameter, as_json, form_schema, from_json, parse_texts, validate
from pipelines.parameters.hints import parse_hint
from pipelines.parameters.injection import cell_source
from pipelines.parameters.kinds import Kind
from workbench.references import SecretReference

__all__ = [
    "REQUIRED",
    "Kind",
    "Parameter",
    "SecretReference",
    "as_json",
    "cell_source",
    "form_schema",
    "from_json",
    "parse_hint",
    "parse_texts",
    "read_cell",
    "validate",
]
