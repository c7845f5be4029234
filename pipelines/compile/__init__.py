"""Pipelines for the schedulers of others: files that call our runner. What has no mapping is refused, never passed over."""

from pipelines.compile.compiled import Compiled, Options, write_compiled
from pipelines.compile.compiling import compile_pipelines

__all__ = ["Compiled", "Options", "compile_pipelines", "write_compiled"]
