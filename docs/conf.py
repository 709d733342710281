"""Sphinx settings; built with warnings as errors by ``./dev docs``."""

from __future__ import annotations

import re
from pathlib import Path

project = "VANTUN"
author = "the VANTUN authors"
copyright = author
# Read, not imported: the manual builds without the program's dependencies.
_source = (Path(__file__).parents[1] / "vantun" / "__init__.py").read_text(encoding="utf-8")
release = version = re.findall(r'^__version__ = "(.+)"$', _source, re.MULTILINE)[0]

extensions = ["myst_parser"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"VANTUN {release}"
