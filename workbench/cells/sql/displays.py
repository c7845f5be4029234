"""IPython's displays, of which it publishes no types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def show_bundle(bundle: Mapping[str, str]) -> Any:
    """Show an output given by MIME type; the handle's `update(bundle, raw=True)` replaces it."""
    from IPython.display import display

    return display(bundle, raw=True, display_id=True)  # type: ignore[no-untyped-call]


def show_widget(widget: Any) -> None:
    """Show a widget below what is there."""
    from IPython.display import display

    display(widget)  # type: ignore[no-untyped-call]
