"""Sphinx: `make docs`."""

from monai_tta._version import __version__

project = "monai_tta"
copyright = "the monai_tta contributors, Apache-2.0"
release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "monai_tta"
autodoc_member_order = "bysource"
autodoc_typehints = "description"
myst_heading_anchors = 3
# MONAI's own docstrings, inherited by our subclasses, are not written for this builder.
autodoc_inherit_docstrings = False
