"""How Sphinx builds the documentation: sphinx-build docs docs/_build"""

project = "speechbrain_lact"
author = "speechbrain_lact contributors"
copyright = "2026, " + author

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
]
exclude_patterns = ["_build"]
html_theme = "furo"
myst_heading_anchors = 4

# SpeechBrain's name of the section.
napoleon_custom_sections = [("Arguments", "params_style")]

autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"

# A type in a docstring may be a name that several classes have.
suppress_warnings = ["ref.python"]
