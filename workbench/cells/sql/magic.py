"""Runs a cell of SQL: options, variables, the engine, and what the person sees of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from workbench.cells.sql.catalogs import CatalogCache
from workbench.cells.sql.completion import complete, complete_options, fallback
from workbench.cells.sql.elapsed import Elapsed
from workbench.cells.sql.failures import located, proposals, told, without_traceback
from workbench.cells.sql.grid import show_grid
from workbench.cells.sql.options import DEFAULT_LIMIT, Options, parse_options
from workbench.cells.sql.places import find_place
from workbench.cells.sql.result import SqlResult, draw
from workbench.errors import QueryRefused, WorkbenchError
from workbench.observability.touched_tables import tell_tables
from workbench.querying import Answer, Catalog, Statement
from workbench.querying.reporting import tell_statement
from workbench.querying.scanner import parse_statements
from workbench.settings import Settings

if TYPE_CHECKING:
    from IPython.core.completer import CompletionContext, SimpleMatcherResult
    from IPython.core.interactiveshell import InteractiveShell

LAST = "_sql"  #: the variable that holds the last result
PROPOSAL_SECONDS = 3.0  # for which an error waits for what may have been meant


class SqlMagic:
    """The magics of one shell. Opens nothing until a cell asks.

    Args:
        shell: whose variables are bound and set.
    """

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell
        self._warehouse = CatalogCache(_read_warehouse)
        self._spark = CatalogCache(self._read_spark)

    def run(self, line: str, cell: str | None, local_ns: Mapping[str, Any], *, spark: bool) -> Any:
        """Run a cell; its value is the result of the last statement, or its plot.

        Raises:
            WorkbenchError: shown by IPython without a traceback.
            KeyboardInterrupt: when interrupted; what ran is cancelled at the server.
        """
        try:
            options = parse_options(line, cell)
            spark = spark or options.spark
            return self._run(options, {**self._shell.user_ns, **local_ns}, spark=spark)
        except WorkbenchError as error:
            if not hasattr(error, "_render_traceback_"):
                without_traceback(error, told(error))
            raise
        except KeyboardInterrupt as interrupt:
            where = "Spark" if spark else "the warehouse"
            without_traceback(interrupt, [f"Interrupted: {where} was told to cancel the query."])
            raise

    def complete(self, context: CompletionContext) -> SimpleMatcherResult:
        """Proposals of IPython's completer."""
        from IPython.core.completer import SimpleCompletion

        place = find_place(context.full_text, context.cursor_line, context.cursor_position)
        if place is None:
            return {"completions": []}
        if place.is_options:
            typed, found = complete_options(place.text[: place.cursor])
        else:
            catalog = (self._spark if place.spark else self._warehouse).read()
            variables = [name for name in self._shell.user_ns if not name.startswith("_")]
            typed, found = complete(place.text, place.cursor, catalog, _dialect(spark=place.spark), variables)
        if not found:
            typed, found = fallback(place.text[: place.cursor])
        return {
            "completions": [SimpleCompletion(each.text, type=each.kind) for each in found],
            "matched_fragment": typed,
            "suppress": True,
            "ordered": True,
        }

    def _run(self, options: Options, variables: Mapping[str, Any], *, spark: bool) -> Any:
        dialect = _dialect(spark=spark)
        statements = parse_statements(options.text, dialect)
        if not statements:
            raise QueryRefused(
                "there is no SQL in this cell", remedy="Write it behind the options, or on the next lines."
            )
        cache = self._spark if spark else self._warehouse
        try:
            values = self._values(options, statements, variables)
            if spark:
                return self._ask_spark(options, statements, values)
            return self._ask_warehouse(options, statements, values)
        except QueryRefused as error:
            lines = located(error, options.text, statements, options.first_line)
            text = statements[error.statement].text
            if near := proposals(error, text, partial(cache.read, PROPOSAL_SECONDS), dialect):
                lines.append(f"Did you mean {' or '.join(near)}?")
            if error.remedy:
                lines.append(f"Remedy: {error.remedy}")
            raise without_traceback(error, lines) from None
        finally:
            if any(not each.reads for each in statements):
                cache.forget()
            if not spark:  # so that the next cell is completed at once; Spark is left alone until somebody types
                cache.read(wait_seconds=0)

    def _values(
        self, options: Options, statements: Sequence[Statement], variables: Mapping[str, Any]
    ) -> dict[str, object]:
        """The value of each parameter: of `--param`, else the variable of its name."""
        given = {name: self._evaluated(name, expression) for name, expression in options.parameters.items()}
        values: dict[str, object] = {}
        for number, statement in enumerate(statements):
            for each in statement.parameters:
                if each.name in given:
                    values[each.name] = given[each.name]
                elif each.name in variables:
                    values[each.name] = variables[each.name]
                else:
                    raise QueryRefused(
                        f"there is no variable {each.name} for :{each.name}",
                        statement=number,
                        position=each.start,
                        remedy=f"Assign it, or give it with --param {each.name}=…",
                    )
        return values

    def _evaluated(self, name: str, expression: str) -> object:
        try:
            return self._shell.ev(expression)  # type: ignore[no-untyped-call]
        except Exception as error:  # noqa: BLE001 - whatever the person's expression raises
            raise QueryRefused(f"--param {name}={expression}: {type(error).__name__}: {error}") from None

    def _ask_warehouse(self, options: Options, statements: Sequence[Statement], values: Mapping[str, object]) -> Any:
        from workbench.warehouse.queries import run_statements

        settings = Settings.load()
        for each in statements:
            tell_tables(settings.pipelines.tables_file, sql=each.text)
        limit = options.limit or (None if options.into else DEFAULT_LIMIT)
        with self._elapsed("The warehouse") as elapsed:
            answers = run_statements(settings.warehouse, statements, values, limit=limit)
        for each, answer in zip(statements, answers, strict=True):
            tell_statement(each.text, len(answer.rows))
        return self._deliver(options, statements, answers, elapsed.seconds)

    def _ask_spark(self, options: Options, statements: Sequence[Statement], values: Mapping[str, object]) -> Any:
        from workbench.transformation.queries import make_frame, run_statements

        session = self._session()
        with self._elapsed("Spark") as elapsed:
            if options.into and not options.pandas and not options.plot:
                frame = make_frame(session, statements, values)
                self._shell.user_ns[options.into] = frame if options.limit is None else frame.limit(options.limit)
                print(f"{options.into}: a lazy Spark DataFrame of {len(frame.columns)} columns")  # noqa: T201
                return None
            limit = options.limit or (None if options.into else DEFAULT_LIMIT)
            answers = run_statements(session, statements, values, limit=limit)
        return self._deliver(options, statements, answers, elapsed.seconds)

    def _deliver(
        self, options: Options, statements: Sequence[Statement], answers: Sequence[Answer], seconds: float
    ) -> Any:
        results = [
            SqlResult(answer=answer, verb=statement.verb, seconds=seconds, show=self._show)
            for statement, answer in zip(statements, answers, strict=True)
        ]
        for result in results[:-1]:
            self._show(result)
        last = self._shell.user_ns[LAST] = results[-1]
        if options.into:
            frame = self._shell.user_ns[options.into] = last.frame()
            print(f"{options.into}: {len(frame):,} rows, {len(frame.columns)} columns. {seconds:.2f} s")  # noqa: T201
        if options.plot:
            return draw(last, options.plot)
        return None if options.into else last

    def _show(self, result: SqlResult) -> None:
        if result.columns:
            show_grid(result, watched=self._is_watched())
            return
        changed = result.answer.changed
        count = "done" if changed is None else f"{changed:,} {'row' if changed == 1 else 'rows'}"
        print(f"{result.verb}: {count}. {result.seconds:.2f} s")  # noqa: T201

    def _is_watched(self) -> bool:
        """Whether somebody can press a button: runs of notebooks take no input, JupyterLab does."""
        kernel = getattr(self._shell, "kernel", None)
        if kernel is None:
            return False
        return bool(kernel.get_parent("shell").get("content", {}).get("allow_stdin"))

    def _elapsed(self, where: str) -> Elapsed:
        return Elapsed(where, watched=self._is_watched())

    def _session(self) -> Any:
        variables = self._shell.user_ns
        if variables.get("spark") is None:
            from workbench.notebook import spark

            variables["spark"] = spark()
        return variables["spark"]

    def _read_spark(self) -> Catalog:
        session = self._shell.user_ns.get("spark")
        if session is None:  # completion starts no session
            return Catalog()
        from workbench.transformation.queries import read_catalog

        return read_catalog(session)


def _dialect(*, spark: bool) -> str:
    return "spark" if spark else "postgresql"


def _read_warehouse() -> Catalog:
    from workbench.warehouse.queries import read_catalog

    return read_catalog(Settings.load().warehouse)
