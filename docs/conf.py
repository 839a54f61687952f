"""How `make docs` builds the documentation: without a network, with warnings as errors."""

import os
import sys
from importlib import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))
# Tutorials call the command `polymodal`, which lies beside this Python.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])

project = "polymodal"
author = "The polymodal developers"
release = metadata.version("polymodal")

extensions = ["myst_nb", "sphinx.ext.autodoc", "api", "mathml", "measured", "registries"]
exclude_patterns = ["_ext"]
nitpicky = False

# Markdown. Pages with a notebook's header (start.md, missing.md, tutorials) are run while the site
# is built; the code of all others, and of the first two, is run by tests/test_docs.py.
myst_enable_extensions = ["dollarmath", "deflist", "fieldlist"]
myst_heading_anchors = 3
myst_links_external_new_tab = False
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True
nb_ipywidgets_js: dict[str, dict[str, str]] = {}

# Docstrings are turned into plain paragraphs by _ext/api.py.
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_use_legacy_class_based = False
default_role = "code"
add_module_names = False
maximum_signature_line_length = 80

html_theme = "pydata_sphinx_theme"
html_title = f"polymodal {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "navigation_depth": 2,
    "show_toc_level": 2,
    "navbar_end": ["theme-switcher"],
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
# Where the documentation of several releases is published, a menu switches between them; see
# "Releases" in CONTRIBUTING.md.
if versions := os.environ.get("POLYMODAL_DOCS_VERSIONS"):
    html_theme_options["switcher"] = {"json_url": versions, "version_match": release}
    html_theme_options["navbar_end"] = ["version-switcher", "theme-switcher"]
html_sidebars = {"index": []}
project_copyright = "the polymodal developers. Licence: Apache-2.0"
