"""From YAML text to plain data, with the line of each key."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import yaml

from chiltepin.errors import ConfigError
from chiltepin.settings.file import working_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Document", "InvalidYAMLError", "KeyPath", "read"]

#: The top-level key of the data settings; every other top-level key, except those below, is a resource.
DATA = "data"

#: The top-level keys about runs, unless they hold a mapping.
RUN_KEYS = ("run_dir", "keep_runs")

#: The path to a value: keys, and indices of lists.
KeyPath = tuple["str | int", ...]

#: Maximum number of values in one file with its aliases expanded; nested aliases can expand to billions.
MAX_NODES = 10_000

#: Maximum number of bytes in one file: MAX_NODES values, each on a long line.
MAX_BYTES = 1 << 18

_NULL, _BOOL, _INT, _FLOAT, _STR = (f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str"))
_MERGE = "tag:yaml.org,2002:merge"

_HINTS = {
    "cannot start any token": "Indent with blanks, not with tabs; quote text that starts with a special character.",
    "mapping values are not allowed here": "Check the indentation, and put text that holds ': ' in quotes.",
    "expected a single document": "Keep the lines above the second '---' and remove the rest.",
    "found undefined alias": "Write the anchor ('&name') above the alias ('*name'), or put the text in quotes.",
    "could not find expected ':'": "Write every line as 'key: value', and check the indentation.",
}


class InvalidYAMLError(ConfigError, yaml.YAMLError):
    """The text of a settings file is not YAML; can also be caught as an error of the YAML parser."""


class Document(dict[str, Any]):
    """The content of a settings file, the file as the user named it, and the line of each key and list item.

    Line numbers start at 1; the path to a value, such as ``("compute", "max_blocks")``, is the key.
    """

    def __init__(
        self, content: Mapping[str, Any] | None = None, *, file: str = "", lines: Mapping[KeyPath, int] | None = None
    ) -> None:
        super().__init__(content or {})
        self.file = file
        self.lines: dict[KeyPath, int] = dict(lines or {})


def read(path: str | os.PathLike[str]) -> Document:
    """Read a settings file, without checking its keys; a file without settings gives an empty document.

    Unquoted values are read as in YAML 1.2: only ``true`` and ``false`` are booleans, and only decimal digits are
    numbers; ``1:00:00``, ``0123`` and ``no`` stay text. ``<<`` merges mappings.

    Raises
    ------
    ConfigError
        If the file cannot be read, is not YAML, is not a mapping, or has a duplicate key.
    """
    file = os.fspath(path)
    root = _compose(_text(file), file)
    if root is None or root.tag == _NULL:
        return Document(file=file)
    if not isinstance(root, yaml.MappingNode):
        kind = "a list" if isinstance(root, yaml.SequenceNode) else "one value"
        raise ConfigError(
            f"{file}:1: a settings file is a mapping of names to settings, but this is {kind}; "
            "write 'name:' lines with the settings indented below.",
            file=file,
            line=1,
        )
    builder = _Builder(file)
    failure = None
    try:
        content = builder.value(root, ())
    except RecursionError:
        failure = _too_deep(file)
    if failure:
        raise failure
    for key_node, value_node in root.value:
        if _is_template(key_node, value_node):
            content.pop(key_node.value, None)
    return Document(content, file=file, lines=builder.lines)


def _is_template(key: yaml.ScalarNode, node: Any) -> bool:
    """Whether a top-level value exists only for the aliases of its anchors: under ``x-...``, a list, or text."""
    if key.value.startswith("x-"):
        return _has_anchor(node, key.start_mark.index)
    if key.value in (DATA, *RUN_KEYS) or isinstance(node, yaml.MappingNode) or node.tag == _NULL:
        return False
    return _is_anchored(node, key.start_mark.index)


def _has_anchor(node: Any, since: int) -> bool:
    inner = [] if isinstance(node, yaml.ScalarNode) else node.value
    children = [child for pair in inner for child in pair] if isinstance(node, yaml.MappingNode) else inner
    return _is_anchored(node, since) or any(_has_anchor(child, since) for child in children)


def _is_anchored(node: Any, since: int) -> bool:
    # The node of an alias begins before the alias.
    return bool(node.anchor) and node.start_mark.index > since


def _text(file: str) -> str:
    try:
        with open(file, "rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        whole = file if os.path.isabs(file) else os.path.join(working_folder(), file)
        message = f"No settings file {whole!r} found; check the name."
    except IsADirectoryError:
        message = (
            f"{file!r} is a folder; name the settings file in it, for example {os.path.join(file, 'chiltepin.yaml')!r}."
        )
    except PermissionError:
        message = f"The settings file {file!r} is not readable for you; change its mode with 'chmod u+r'."
    except (OSError, ValueError) as err:
        message = f"The settings file {file!r} could not be read: {err}."
    else:
        if len(raw) > MAX_BYTES:
            raise ConfigError(
                f"The settings file {file!r} has more than {MAX_BYTES >> 10} KiB, the limit for settings; choose "
                "another file.",
                file=file,
            )
        try:
            # Windows editors put a byte order mark at the start of UTF-8.
            return raw.decode("utf-8-sig")
        except UnicodeDecodeError as err:
            line = raw.count(b"\n", 0, err.start) + 1
            message = f"{file}:{line}: the byte 0x{raw[err.start]:02x} is not UTF-8; save the file as UTF-8 text."
        raise ConfigError(message, file=file, line=line)
    raise ConfigError(message, file=file)


class _Loader(yaml.SafeLoader):
    """A safe loader that keeps as text what is neither a number nor a boolean in YAML 1.2."""

    # The resolvers of YAML 1.1 make 1:00:00 the number 3600 and the account 0123 the number 83.
    yaml_implicit_resolvers: ClassVar[dict[Any, Any]] = {}  # type: ignore[misc]

    def compose_node(self, parent: yaml.Node | None, index: int) -> Any:
        """Return the next node, with its anchor, which PyYAML drops."""
        anchor = self.peek_event().anchor  # type: ignore[no-untyped-call]
        node: Any = super().compose_node(parent, index)
        node.anchor = anchor
        return node


for _tag, _pattern in (
    (_NULL, r"(~|null|Null|NULL|)\Z"),
    (_BOOL, r"(true|True|TRUE|false|False|FALSE)\Z"),
    (_INT, r"[-+]?(0|[1-9][0-9]*)\Z"),
    (_FLOAT, r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE][-+0-9]))([eE][-+]?[0-9]+)?\Z"),
    (_MERGE, r"<<\Z"),
):
    _Loader.add_implicit_resolver(_tag, re.compile(_pattern), None)


def _represent(dumper: Any, document: Document) -> yaml.Node:
    node: yaml.Node = dumper.represent_dict(document)
    _quote(node)
    return node


def _quote(node: yaml.Node) -> None:
    """Quote text that `read` would parse as a number, but PyYAML, with the rules of YAML 1.1, would not."""
    if isinstance(node, yaml.ScalarNode):
        if node.tag == _STR and any(found.match(node.value) for _, found in _Loader.yaml_implicit_resolvers[None]):
            node.style = '"'
        return
    for child in node.value:
        for one in child if isinstance(child, tuple) else (child,):
            _quote(one)


#: Make the dumpers of PyYAML write a document as a plain dict.
for _dumper in ("Dumper", "SafeDumper", "CDumper", "CSafeDumper"):
    if hasattr(yaml, _dumper):
        getattr(yaml, _dumper).add_representer(Document, _represent)


def _compose(text: str, file: str) -> yaml.Node | None:
    try:
        loader = _Loader(text)
        try:
            return loader.get_single_node()
        finally:
            loader.dispose()
    except yaml.reader.ReaderError as err:
        line = text.count("\n", 0, err.position) + 1
        failure: ConfigError = InvalidYAMLError(
            f"{file}:{line}: the character {text[err.position]!r} is not allowed in YAML; remove it.",
            file=file,
            line=line,
        )
    except yaml.MarkedYAMLError as err:
        mark = err.problem_mark or err.context_mark
        line = mark.line + 1 if mark else 1
        what = ", ".join(part for part in (err.context, err.problem) if part)
        hint = next((hint for sign, hint in _HINTS.items() if sign in what), "Check the lines around it.")
        failure = InvalidYAMLError(f"{file}:{line}: not valid YAML: {what}. {hint}", file=file, line=line)
    except RecursionError:
        failure = _too_deep(file)
    raise failure


def _too_deep(file: str) -> ConfigError:
    return ConfigError(f"{file}: the settings are nested too deeply; remove brackets or indentation.", file=file)


class _Builder:
    """Turns a tree of nodes into plain data, and records the lines."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.lines: dict[KeyPath, int] = {}
        self._count = 0
        self._open: set[int] = set()

    def value(self, node: yaml.Node, path: KeyPath) -> Any:
        """Return the value of a node."""
        if isinstance(node, yaml.MappingNode):
            self._check_tag(node, "map")
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            self._check_tag(node, "seq")
            return self._sequence(node, path)
        with self._inside(node):
            return self._scalar(node)

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        pairs = self._pairs(node)
        content = {}
        with self._inside(node):
            for key, (key_node, value_node) in pairs.items():
                self.lines[(*path, key)] = _line(key_node)
                content[key] = self.value(value_node, (*path, key))
        return content

    def _sequence(self, node: yaml.SequenceNode, path: KeyPath) -> list[Any]:
        content = []
        with self._inside(node):
            for index, item in enumerate(node.value):
                self.lines[(*path, index)] = _line(item)
                content.append(self.value(item, (*path, index)))
        return content

    def _scalar(self, node: yaml.Node) -> Any:
        self._check_tag(node, "null", "bool", "int", "float", "str", "merge")
        text: str = node.value
        try:
            if node.tag == _INT:
                return int(text)
            if node.tag == _FLOAT:
                return float(text)
        except ValueError:
            pass
        else:
            if node.tag == _BOOL and text.lower() in {"true", "false"}:
                return text.lower() == "true"
            if node.tag == _NULL:
                return None
            if node.tag in {_STR, _MERGE}:
                return text
        raise self._error(
            node, f"{_short(text)!r} is not of type {node.tag.rpartition(':')[2]}; remove the tag before it."
        )

    def _pairs(self, node: yaml.MappingNode) -> dict[str, tuple[yaml.Node, yaml.Node]]:
        """Return the keys and values of a mapping; its own keys take precedence over merged keys."""
        own: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        merged: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        with self._inside(node):
            for key_node, value_node in node.value:
                if key_node.tag == _MERGE:
                    for source in self._merge_sources(value_node):
                        merged = {**self._pairs(source), **merged}
                    continue
                key = self._key(key_node)
                if key in own:
                    first = _line(own[key][0])
                    raise self._error(key_node, f"the key {key!r} appears here and in line {first}; keep one of them.")
                own[key] = (key_node, value_node)
        return {**own, **{key: pair for key, pair in merged.items() if key not in own}}

    def _merge_sources(self, node: yaml.Node) -> list[yaml.MappingNode]:
        sources = node.value if isinstance(node, yaml.SequenceNode) else [node]
        for source in sources:
            if not isinstance(source, yaml.MappingNode):
                raise self._error(source, "'<<' merges mappings only; write the alias of one ('<<: *name').")
        return list(sources)

    def _key(self, node: yaml.Node) -> str:
        if not isinstance(node, yaml.ScalarNode) or not node.value:
            raise self._error(node, "a key is one piece of text; write 'name: value'.")
        # As typed: a resource called 2024, 1.10 or null keeps its name.
        return str(node.value)

    def _check_tag(self, node: yaml.Node, *known: str) -> None:
        if node.tag.rpartition(":")[2] not in known or not node.tag.startswith("tag:yaml.org,2002:"):
            tag = node.tag.replace("tag:yaml.org,2002:", "!!")
            raise self._error(node, f"the tag {tag!r} is not allowed in a settings file; write the value without it.")

    @contextmanager
    def _inside(self, node: yaml.Node) -> Iterator[None]:
        """Count the node, and refuse a node that contains itself."""
        self._count += 1
        if self._count > MAX_NODES:
            raise self._error(
                node,
                f"with its aliases written out the file has more than {MAX_NODES} values; use fewer aliases ('*name').",
            )
        if id(node) in self._open:
            raise self._error(node, "this anchor ('&name') contains its own alias ('*name'); write the value out.")
        self._open.add(id(node))
        try:
            yield
        finally:
            self._open.discard(id(node))

    def _error(self, node: yaml.Node, sentence: str) -> ConfigError:
        line = _line(node)
        return ConfigError(f"{self.file}:{line}: {sentence}", file=self.file, line=line)


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."  # noqa: PLR2004 - what one line of a terminal has room for


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
