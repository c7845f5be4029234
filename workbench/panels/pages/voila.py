"""Pages by Voilà: a notebook of one cell, its widget, and nothing that is fetched from elsewhere."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import nbformat
from jupyter_server.base.handlers import FileFindHandler
from jupyter_server.utils import url_path_join
from jupyterlab_server.themes_handler import ThemesHandler
from voila.configuration import VoilaConfiguration
from voila.handler import VoilaHandler
from voila.paths import collect_static_paths, collect_template_paths
from voila.static_file_handler import MultiStaticFileHandler, TemplateStaticFileHandler
from voila.utils import get_data_dir, get_voila_labextensions_path

from workbench.panels.pages.kernels import PageKernels

TEMPLATE = "workbench"  #: in workbench/jupyter/share/voila/templates: Voilà's own, without the styles of a CDN
SOURCES = ["voila", "nbconvert"]
WIDGETS = ["@jupyter-widgets/jupyterlab-manager", "@voila-dashboards/widgets-manager8"]
# The widget itself: what a notebook keeps beside it is of no use on a page.
CELL = "from workbench import panels\npanel = panels.{name}()\npanel.start()\npanel.widget"


class VoilaPages:
    """Renders panels.

    Args:
        server: jupyter-server's application, which is given the addresses of Voilà's scripts and styles.
        kernels: where theirs are started.
    """

    def __init__(self, server: Any, kernels: PageKernels) -> None:
        self._configuration = VoilaConfiguration(
            template=TEMPLATE,
            allow_template_override="NO",
            allow_theme_override="NO",
            extension_allowlist=WIDGETS,
            page_config_hook=_without_mathjax,
        )
        self._kernels = kernels
        self._given = {
            "config": server.config,
            "template_paths": collect_template_paths(SOURCES, TEMPLATE),
            "voila_configuration": self._configuration,
        }
        server.web_app.add_handlers(".*$", _assets(server.web_app.settings["base_url"]))

    async def render(self, handler: Any, name: str, title: str) -> AsyncIterator[str]:
        """The page of a panel; *handler* has been asked for it, and knows who asks."""
        inner = _Renderer(
            handler.application, handler.request, **self._given, panel=(name, title), kernels=self._kernels
        )
        inner.current_user = handler.current_user
        async for html in inner.get_generator(f"{name}.ipynb"):
            yield html


class _Renderer(VoilaHandler):  # type: ignore[misc] # voila ships no types
    """Voilà's way from a notebook to a page; the notebook is ours, and answers are written by who has asked."""

    def initialize(self, *, panel: tuple[str, str], kernels: PageKernels, **given: Any) -> None:
        super().initialize(**given)
        self._panel, self._kernels = panel, kernels

    @property
    def contents_manager(self) -> Any:
        return _OneNotebook(*self._panel)

    @property
    def kernel_manager(self) -> Any:
        return self._kernels


@dataclass(frozen=True)
class _OneNotebook:
    """In the place of the files of the home."""

    name: str
    title: str

    async def get(self, path: str) -> dict[str, Any]:
        cells = [
            nbformat.v4.new_markdown_cell(f"# {self.title}"),
            nbformat.v4.new_code_cell(CELL.format(name=self.name)),
        ]
        notebook = nbformat.v4.new_notebook(metadata={"title": self.title}, cells=cells)
        return {"type": "notebook", "path": path, "content": notebook}


def _without_mathjax(config: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Formulas are drawn by what Voilà has with it; an address would be that of a CDN."""
    return {**config, "fullMathjaxUrl": None, "mathjaxConfig": None}


def _assets(base_url: str) -> list[Any]:
    """What Voilà's pages load: files of installed packages."""

    def at(*path: str) -> str:
        return str(url_path_join(base_url, "voila", *path))

    extensions = get_voila_labextensions_path([])
    themes = {
        "themes_url": "/voila/api/themes", "path": f"{get_data_dir()}/themes", "labextensions_path": extensions,
        "no_cache_paths": ["/"],
    }  # fmt: skip
    return [
        (at("templates", "(.*)"), TemplateStaticFileHandler),
        (at("static", "(.*)"), MultiStaticFileHandler, {"paths": collect_static_paths(SOURCES, TEMPLATE)}),
        (at("labextensions", "(.*)"), FileFindHandler, {"path": extensions, "no_cache_paths": ["/"]}),
        (at("api", "themes", "(.*)"), ThemesHandler, themes),
    ]
