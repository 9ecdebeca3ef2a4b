"""YAML as people mean it: numbers in ten digits, no clock times, no key given twice.

PyYAML follows YAML 1.1, which takes ``0100`` for 64, ``1:30`` for 90, ``no`` for false and ``1e-5``
for a text. Here scalars are those of YAML 1.2's core schema, with ``1_000`` for a thousand. All
else is a text; what a text may stand for is decided where the type that is wanted is known.

>>> load_yaml("[0100, 1_000, 0x10, 0o17, 1e-5, 1:30, no]")
[100, 1000, 16, 15, 1e-05, '1:30', 'no']
"""

import re
from pathlib import Path

import yaml

NULL = re.compile(r"^(?:~|null|Null|NULL|)$")
BOOL = re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$")
INT = re.compile(r"^(?:[-+]?[0-9][0-9_]*|0x[0-9a-fA-F]+|0o[0-7]+)$")
FLOAT = re.compile(
    r"^(?:[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
)
SPOKEN = {"yes": True, "on": True, "true": True, "no": False, "off": False, "false": False}


class _Loader(yaml.SafeLoader):
    """Safe, as a file of others is to be read, and strict."""

    yaml_implicit_resolvers: dict = {}

    def construct_mapping(self, node: yaml.Node, deep: bool = False) -> dict:
        """A mapping; a key that is there twice is an error at its second line."""
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if isinstance(key, yaml.ScalarNode) and not key.tag.endswith(":merge"):
                line, name = key.start_mark.line + 1, (key.tag, key.value)
                if name in lines:
                    told = f"line {line}: the key {key.value!r} is there already, in line"
                    raise yaml.constructor.ConstructorError(problem=f"{told} {lines[name]}")
                lines[name] = line
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.Node) -> int:
        text = self.construct_scalar(node).replace("_", "")
        return int(text, {"0x": 16, "0o": 8}.get(text[:2], 10))

    def construct_yaml_float(self, node: yaml.Node) -> float:
        text = self.construct_scalar(node).replace("_", "").lower()
        return float(text.replace(".inf", "inf").replace(".nan", "nan"))


for _name, _form in (("null", NULL), ("bool", BOOL), ("int", INT), ("float", FLOAT)):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", _form, None)
_Loader.add_implicit_resolver("tag:yaml.org,2002:merge", re.compile(r"^<<$"), ["<"])
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_yaml_float)


def load_yaml(text: str) -> object:
    """What a YAML text holds. Raises ``ValueError`` that names line and fault."""
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"not valid YAML: {' '.join(str(error).split())}") from None


def read_yaml(path: Path) -> object:
    """What a YAML file holds, with or without a byte order mark. Raises ``ValueError``."""
    try:
        return load_yaml(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8: {error}") from None
