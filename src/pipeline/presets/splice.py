"""Put values into a YAML file without touching anything else in it.

A library that reads a file and writes it again moves comments and blank lines that stand behind a
value it replaces. Here the places of the values are read and the text between them is kept, byte
for byte.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import yaml

from pipeline.errors import ConfigurationError

Keys = tuple[str, ...]
"""What leads to a value."""


@dataclass(frozen=True)
class Written:
    """A value as it stands in a file."""

    lines: tuple[str, ...]
    """Without their common indent."""
    block: bool
    """Whether they stand below the key, comments included, or behind it."""


@dataclass(frozen=True)
class Document:
    """A YAML file of nested mappings, and where each value stands in its text."""

    name: str
    text: str

    @cached_property
    def _root(self) -> yaml.Node | None:
        try:
            return yaml.compose(self.text, Loader=yaml.SafeLoader)
        except yaml.YAMLError as error:
            raise ConfigurationError(f"{self.name} is not valid YAML: {error}") from error

    @cached_property
    def _content(self) -> object:
        return yaml.safe_load(self.text)

    def find(self, keys: Keys) -> tuple[yaml.Node, yaml.Node, bool]:
        """The last key, its value, and whether both stand inside of braces.

        Raises:
            ConfigurationError: there are no such keys, or the text is no YAML.
        """
        node, braces = self._root, False
        key: yaml.Node | None = None
        for name in keys:
            pairs = node.value if isinstance(node, yaml.MappingNode) else []
            braces = isinstance(node, yaml.MappingNode) and bool(node.flow_style)
            key, node = next((pair for pair in pairs if pair[0].value == name), (None, None))
        if key is None or node is None:
            raise ConfigurationError(f"{self.name}: there is no key {'.'.join(keys)}")
        return key, node, braces

    def value(self, keys: Keys) -> object:
        """What the value at ``keys`` means, see `find`."""
        self.find(keys)
        value = self._content
        for key in keys:
            value = value[key]  # type: ignore[index]  # `find` has shown that it is a mapping
        return value

    def written(self, keys: Keys) -> Written:
        """How the value at ``keys`` is written, see `find`."""
        _, value, _ = self.find(keys)
        if not _is_block(value):
            return Written((self.text[value.start_mark.index : value.end_mark.index],), block=False)
        lines = self.text.split("\n")[value.start_mark.line : _end(value).line + 1]
        return Written(tuple(line[value.start_mark.column :] for line in lines), block=True)


def splice(document: Document, changes: Mapping[Keys, Written]) -> Document:
    """``document`` with these values at these keys, none of which lies inside of another.

    The comment behind a key stays, in its column if there is room; comments inside of what is
    replaced go with it.

    Raises:
        ConfigurationError: there are no such keys in the file.
    """
    lines = document.text.split("\n")
    found = [(*document.find(keys), new) for keys, new in changes.items()]
    # From the end on, so that what is still to be replaced stays where it was found.
    for key, old, braces, new in sorted(found, key=lambda each: -each[0].start_mark.index):
        if braces:
            _replace_in_braces(lines, old, new)
        else:
            _replace(lines, key, old, new)
    return Document(document.name, "\n".join(lines))


def _replace_in_braces(lines: list[str], old: yaml.Node, new: Written) -> None:
    row, start, end = old.start_mark.line, old.start_mark.column, old.end_mark.column
    line, comment, column = _without_comment(lines[row], end)
    changed = line[:start] + " ".join(new.lines) + line[end:]
    lines[row] = _with_comment(changed, comment, column)


def _replace(lines: list[str], key: yaml.Node, old: yaml.Node, new: Written) -> None:
    row = key.end_mark.line
    line, comment, column = lines[row], "", 0
    if _is_block(old):
        line, comment, column = _without_comment(line, key.end_mark.column + 1)
    elif old.end_mark.line == row:
        line, comment, column = _without_comment(line, old.end_mark.column)
    head = line[: line.index(":", key.end_mark.column) + 1]
    if not new.block:
        head = f"{head} {new.lines[0]}"
    lines[row] = _with_comment(head, comment, column)
    indent = " " * (key.start_mark.column + 2)
    below = [indent + line if line.strip() else "" for line in new.lines] if new.block else []
    if _is_block(old):
        lines[old.start_mark.line : _end(old).line + 1] = below
    else:
        lines[row + 1 : old.end_mark.line + 1] = below


def _is_block(node: yaml.Node) -> bool:
    return isinstance(node, yaml.CollectionNode) and not node.flow_style


def _end(node: yaml.Node) -> yaml.Mark:
    """Where the last value of ``node`` ends: a block's own mark lies behind comments below it."""
    while _is_block(node):
        last = node.value[-1]
        node = last[1] if isinstance(last, tuple) else last
    return node.end_mark


def _without_comment(line: str, behind: int) -> tuple[str, str, int]:
    """``line`` without the comment after column ``behind``, that comment, and its column."""
    found = re.search(r"\s#.*$", line[behind:])
    if found is None:
        return line, "", 0
    column = behind + found.start() + 1
    return line[:column].rstrip(), line[column:], column


def _with_comment(text: str, comment: str, column: int) -> str:
    if not comment:
        return text.rstrip()
    return f"{text.rstrip().ljust(column - 2)}  {comment}"
