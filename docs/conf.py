"""How Sphinx makes the documentation; nothing here needs a network."""

from __future__ import annotations

from importlib.metadata import version as version_of
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from docutils.nodes import Element
    from sphinx.addnodes import pending_xref
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

project = "Chiltepin"
author = "the Chiltepin developers"
project_copyright = "the Chiltepin developers, Apache License 2.0"
release = version = version_of("chiltepin")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "examples"]
nitpicky = True
# Quotes alone: of --exclude in a table, dashes would make an option that is none.
smartquotes_action = "qe"

html_theme = "furo"
html_title = f"Chiltepin {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
# The sources of the pages are in the repository; a second copy beside the pages has no use.
html_copy_source = False

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

copybutton_prompt_text = "$ "
copybutton_line_continuation_character = "\\"

# `name` in a docstring is a reference, ``name`` is code.
default_role = "py:obj"
autodoc_member_order = "bysource"
# The docstrings say the types, with units and in words.
autodoc_typehints = "none"
napoleon_google_docstring = False
# As plain text: "mapping of str to Any" is a phrase and not the name of a class.
napoleon_use_param = False
napoleon_use_rtype = False
napoleon_custom_sections = ["The promise"]

nitpick_ignore = [
    ("py:obj", "globus_sdk.TransferClient"),
    # Names of Python and of Parsl: their own documentation is not asked, as it is on a network.
    ("py:class", "Exception"),
    ("py:class", "concurrent.futures.Future"),
    ("py:class", "enum.Enum"),
    ("py:class", "parsl.config.Config"),
    ("py:class", "parsl.dataflow.futures.AppFuture"),
]


def find_short_name(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, text: Element
) -> Any:
    """Resolve a reference by the last part of a name, if one public object alone has it: `ConfigError`, `poll`."""
    domain = env.domains["py"]
    if node.get("refdomain") != "py":
        return None
    found = [
        name for name in domain.objects if name.endswith(f".{node['reftarget']}")
    ]
    if len(found) != 1:
        return None
    node["reftarget"] = found[0]
    return domain.resolve_xref(
        env, node["refdoc"], app.builder, node["reftype"], found[0], node, text
    )


def setup(app: Sphinx) -> None:
    """Have short names found."""
    app.connect("missing-reference", find_short_name)
