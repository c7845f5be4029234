"""Sphinx reads this file: `make docs` builds the pages of this folder into docs/_build."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

project = "Analytics workbench"
copyright = "the contributors, Apache-2.0"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "diagram", "docstrings", "openapi_page"]
exclude_patterns = ["_build"]
myst_heading_anchors = 3
# Blocks without a language are commands and settings.
highlight_language = "text"

# A name of a package's `__all__` is in its own module too.
suppress_warnings = ["ref.python"]
autodoc_member_order = "groupwise"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True, "show-inheritance": True, "exclude-members": "model_config"}

html_theme = "furo"
html_title = project
