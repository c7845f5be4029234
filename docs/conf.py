"""Sphinx reads this file: `make docs` builds the pages of this folder into docs/_build."""

project = "Analytics workbench"
copyright = "the contributors, Apache-2.0"
extensions = ["myst_parser"]
exclude_patterns = ["_build"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = project
