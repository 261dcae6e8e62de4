"""The configuration of Sphinx; the build needs no network."""

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
# Quotes only: smart dashes would turn --exclude in a table into a wrong option.
smartquotes_action = "qe"

html_theme = "furo"
html_title = f"Chiltepin {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
# The repository has the sources of the pages; a copy beside the pages is not needed.
html_copy_source = False

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

copybutton_prompt_text = "$ "
copybutton_line_continuation_character = "\\"

# `name` in a docstring is a reference, ``name`` is code.
default_role = "py:obj"
autodoc_member_order = "bysource"
# The docstrings describe the types in words, with units.
autodoc_typehints = "none"
napoleon_google_docstring = False
# As plain text: "mapping of str to Any" is a phrase, not the name of a class.
napoleon_use_param = False
napoleon_use_rtype = False
napoleon_custom_sections = ["The promise"]

nitpick_ignore = [
    ("py:obj", "globus_sdk.TransferClient"),
    # Names of Python and Parsl, whose documentation would need a network.
    ("py:class", "Exception"),
    ("py:class", "concurrent.futures.Future"),
    ("py:class", "enum.Enum"),
    ("py:class", "parsl.config.Config"),
    ("py:class", "parsl.dataflow.futures.AppFuture"),
]


def find_short_name(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, text: Element
) -> Any:
    """Resolve a reference by the last part of a name, such as `ConfigError` or `poll`, if only one object has it."""
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
    """Register the resolver of short names."""
    app.connect("missing-reference", find_short_name)
