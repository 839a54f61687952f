"""YAML: text of a user's read as plain values, and plain values written.

What is read is data: at most 256 KiB of UTF-8, no tags, no key twice, no references to anything
outside. Keys are text as they are written; values are text unless they are numbers (1e-3, too),
true, false or null.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from polymodal.checks import shown
from polymodal.checks.files import read_bytes
from polymodal.checks.values import NESTED

LARGEST = 2**18  # characters
VALUES = 20_000  # in one text, with those that aliases repeat
WORDS = {"true": True, "false": False, "null": None, "~": None, "": None}
NUMBER = re.compile(r"[-+]?(\d+|(\d+\.\d*|\.\d+)([eE][-+]?\d+)?|\d+[eE][-+]?\d+|\.inf)|\.nan", re.I)
TAGS = re.compile(r"tag:yaml.org,2002:(null|bool|int|float|str|seq|map|timestamp|merge|value)")


def read_file(path: Path, name: str) -> dict[str, Any]:
    """A file that holds a mapping. Raises ValueError, as `read_mapping`."""
    try:
        return read_mapping(read_bytes(path, 1).decode(), name)
    except UnicodeDecodeError:
        raise ValueError(f"{name} must be text in UTF-8; save it as such.") from None


def read_mapping(text: str, name: str) -> dict[str, Any]:
    """YAML text as a mapping. Raises ValueError with the line that cannot be read."""
    value = read(text, name)
    if not isinstance(value, dict):
        raise ValueError(
            f"{name} must be a mapping such as training: {{epochs: 5}}, got {shown(value)}."
        )
    return value


def read(text: str, name: str) -> Any:
    """YAML text as plain values.

    Args:
        name: of the text, for sentences.

    Raises ValueError, with the line, for what cannot be read.

    >>> read("{lr: 1e-3, on: yes, names: [a, null]}", "It")
    {'lr': 0.001, 'on': 'yes', 'names': ['a', None]}
    """
    if len(text) > LARGEST:
        raise ValueError(f"{name} has more than {LARGEST:,} characters.")
    try:
        return _Values(name).of(yaml.compose(text, yaml.SafeLoader))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        parts = [getattr(error, part, None) for part in ("context", "problem", "reason")]
        said = ", ".join(part for part in parts if part)
        raise ValueError(f"{name} is not readable YAML: {said}{place}.") from None
    except RecursionError:
        raise ValueError(f"{name} is nested more than {NESTED} deep.") from None


class _Values:
    """The plain values of the nodes of a text, within bounds."""

    def __init__(self, name: str) -> None:
        self.name, self.counts = name, count(1)

    def refusal(self, node: Node, reason: str) -> ValueError:
        return ValueError(f"{self.name} {reason}, in line {node.start_mark.line + 1}.")

    def of(self, node: Node | None, levels: int = NESTED) -> Any:
        """The value of a node; null of an empty text."""
        if node is None:
            return None
        if not TAGS.fullmatch(node.tag):
            tag = node.tag.rpartition(":")[2]
            raise self.refusal(node, f"has the tag {shown(tag)}, and tags are not read")
        if not levels:  # an alias of a node that holds it, as well
            raise self.refusal(node, f"is nested more than {NESTED} deep")
        if next(self.counts) > VALUES:
            raise self.refusal(node, f"holds more than {VALUES:,} values")
        if isinstance(node, MappingNode):
            return dict(self.items(node, levels))
        if isinstance(node, SequenceNode):
            return [self.of(each, levels - 1) for each in node.value]
        return self.scalar(node)

    def items(self, node: MappingNode, levels: int) -> Iterator[tuple[str, Any]]:
        """The keys and values of a mapping. Raises ValueError for a key that comes twice."""
        keys = set()
        for key, value in node.value:
            if not isinstance(key, ScalarNode):
                raise self.refusal(key, "has a key that is no word")
            if key.value in keys:
                raise self.refusal(key, f"has the key {shown(key.value)} twice")
            keys.add(key.value)
            yield key.value, self.of(value, levels - 1)

    def scalar(self, node: ScalarNode) -> Any:
        """A number, true, false or null, where it is written plainly; else text."""
        text = node.value
        if node.style is not None:
            return text
        if text.lower() in WORDS:
            return WORDS[text.lower()]
        if not NUMBER.fullmatch(text):
            return text
        if len(text) > 300:
            raise self.refusal(node, "has a number of hundreds of digits")
        number = text.replace(".inf", "inf").replace(".nan", "nan")
        return int(number) if re.fullmatch(r"[-+]?\d+", number) else float(number)


class _Dumper(yaml.SafeDumper):
    """Writes text that `read` would take for a number in quotes, and repeats what is shared."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _quoted(dumper: _Dumper, text: str) -> ScalarNode:
    """Text; in quotes where it has characters that plain text would change."""
    style = None if text.isprintable() else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)


_Dumper.add_representer(str, _quoted)
_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", NUMBER, list("-+.0123456789"))


def write(settings: Mapping[str, Any]) -> str:
    """Plain nested mappings as YAML, which `read` gives back.

    >>> print(write({"lr": 1e-3, "name": "1e-3", "sizes": [1, 2]}), end="")
    lr: 0.001
    name: '1e-3'
    sizes:
    - 1
    - 2
    """
    return yaml.dump(dict(settings), Dumper=_Dumper, sort_keys=False, allow_unicode=True)
