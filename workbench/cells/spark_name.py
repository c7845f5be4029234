"""The name `spark` in a kernel.

The session is made when a cell first mentions `spark`, not before: a kernel that never does has
no session on the server.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

from workbench.errors import WorkbenchError

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

NAME = "spark"


class SparkBinder(ast.NodeTransformer):
    """Binds `spark` before a cell runs that reads the name, unless the user has bound it."""

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell

    def visit(self, node: ast.AST) -> Any:
        """Called by IPython with the syntax tree of each cell; returns it unchanged.

        Raises:
            InputRejected: so that the cell does not run, when there is no session to be had.
        """
        if NAME not in self._shell.user_ns and _reads(node, NAME):
            self._bind()
        return node

    def _bind(self) -> None:
        from IPython.core.error import InputRejected

        from workbench.cells.spark_errors import draw_errors
        from workbench.notebook import spark

        try:
            self._shell.user_ns[NAME] = spark()
            draw_errors(self._shell)
        except WorkbenchError as error:
            raise InputRejected(str(error)) from None


def _reads(tree: ast.AST, name: str) -> bool:
    """Whether the cell reads the name before it gives it a value of its own."""
    for statement in getattr(tree, "body", []):
        uses = [type(node.ctx) for node in ast.walk(statement) if isinstance(node, ast.Name) and node.id == name]
        if ast.Load in uses:
            return True
        if ast.Store in uses:
            return False
    return False
