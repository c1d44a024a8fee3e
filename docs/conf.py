"""How Sphinx builds the documentation: sphinx-build docs docs/_build"""

project = "speechbrain_lact"
author = "speechbrain_lact contributors"
copyright = "2026, " + author

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
]
# Tables without titles, written by a program; adaptation.md has them.
exclude_patterns = ["_build", "adaptation"]
html_theme = "furo"
myst_heading_anchors = 4

# SpeechBrain's name of the section.
napoleon_custom_sections = [("Arguments", "params_style")]

# The guides link to files of the repository.
suppress_warnings = ["myst.xref_missing"]
