"""`%%sql` and `%sql` for the warehouse, `%%sparksql` and `%sparksql` for Spark.

`register` is all that a kernel loads of this package until a cell uses it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from IPython.core.completer import CompletionContext, SimpleMatcherResult
    from IPython.core.interactiveshell import InteractiveShell

    from workbench.cells.sql.magic import SqlMagic

MAGICS = ("sql", "sparksql")


class LazySql:
    """The magics and the completion of one shell, made when the first of them is used."""

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell
        self._made: SqlMagic | None = None

    def sql(self, line: str, cell: str | None = None, local_ns: dict[str, Any] | None = None) -> Any:
        """Ask the warehouse; values go in as `:name`, from the notebook's variables. See docs/sql.md.

        Options: --into NAME, --limit N, --param NAME=EXPRESSION, --plot KIND x=COLUMN y=COLUMN, --spark, --pandas.

        Example:
            %%sql
            SELECT carrier, count(*) AS flights FROM raw.flights WHERE month = :month GROUP BY carrier
        """
        return self._magic().run(line, cell, local_ns or {}, spark=False)

    def sparksql(self, line: str, cell: str | None = None, local_ns: dict[str, Any] | None = None) -> Any:
        """Ask Spark; values go in as `:name`, from the notebook's variables. See docs/sql.md.

        Options: --into NAME, --limit N, --param NAME=EXPRESSION, --plot KIND x=COLUMN y=COLUMN, --pandas.

        Example:
            %%sparksql --into busiest
            SELECT origin, count(*) AS flights FROM flights GROUP BY origin
        """
        return self._magic().run(line, cell, local_ns or {}, spark=True)

    def complete(self, context: CompletionContext) -> SimpleMatcherResult:
        """Called by IPython's completer for every cell; looks at those with SQL only."""
        if not any(f"%{name}" in context.full_text for name in MAGICS):
            return {"completions": []}
        return self._magic().complete(context)

    # IPython's second matcher API (IPython.core.completer): it tells where the cursor is.
    complete.matcher_api_version = 2  # type: ignore[attr-defined]
    complete.matcher_priority = 100  # type: ignore[attr-defined]

    def _magic(self) -> SqlMagic:
        if self._made is None:
            from workbench.cells.sql.magic import SqlMagic

            self._made = SqlMagic(self._shell)
        return self._made


def register(shell: InteractiveShell) -> None:
    """Give *shell* the magics and their completion. Loads no driver."""
    from IPython.core.magic import needs_local_scope

    lazy = LazySql(shell)
    for name in MAGICS:
        method = getattr(LazySql, name)
        shell.register_magic_function(needs_local_scope(method).__get__(lazy), "line_cell", name)
    if shell.Completer is not None:
        shell.Completer.custom_matchers.append(lazy.complete)


def unregister(shell: InteractiveShell) -> None:
    """Take them away again."""
    for kind in ("line", "cell"):
        for name in MAGICS:
            shell.magics_manager.magics[kind].pop(name, None)
    if shell.Completer is not None:
        matchers = shell.Completer.custom_matchers
        matchers[:] = [each for each in matchers if not isinstance(getattr(each, "__self__", None), LazySql)]
