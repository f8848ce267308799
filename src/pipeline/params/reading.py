"""From the text of ``params.yaml`` to its sections, and from what is wrong in it to a message."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from pipeline.errors import ConfigurationError, did_you_mean
from pipeline.params.sections import Params


class _UniqueKeyLoader(yaml.SafeLoader):
    """PyYAML keeps the last of two equal keys without a word; a user's slip must be seen."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, dict | list):
                raise ConfigurationError(
                    f"params.yaml, line {key_node.start_mark.line + 1}: a key is a word, not {key}"
                )
            if key in seen:
                raise ConfigurationError(
                    f"params.yaml, line {key_node.start_mark.line + 1}: '{key}' is there twice"
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


# YAML 1.1 reads 1e-3 as text; users mean the number.
_UniqueKeyLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d[\d_]*)(\.[\d_]*)?[eE][-+]?\d+$"),
    list("-+0123456789"),
)


def load(path: Path) -> Params:
    """Read ``params.yaml``.

    Raises:
        ConfigurationError: the file is missing, is no YAML, lacks a key, has an unknown one, or a
            value is not allowed. One line for each, naming the key, the value and what is allowed.
    """
    try:
        with path.open(encoding="utf-8") as file:
            raw = yaml.load(file, Loader=_UniqueKeyLoader)  # noqa: S506 (a SafeLoader)
    except FileNotFoundError:
        raise ConfigurationError(
            f"{path}: missing; it holds every setting of the pipeline"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path.name} is not valid YAML: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigurationError(f"{path.name}: expected sections such as 'train:', found {raw!r}")
    try:
        return Params.model_validate(_with_common_settings(raw))
    except ValidationError as error:
        lines = dict.fromkeys(_message(detail) for detail in _first_causes(error.errors()))
        raise ConfigurationError("\n".join(f"{path.name}: {line}" for line in lines)) from None


def _with_common_settings(raw: dict[Any, Any]) -> dict[Any, Any]:
    """Lay each variant's own settings over those of ``train``."""
    train, variants = raw.get("train"), raw.get("variants")
    if not isinstance(train, dict) or not isinstance(variants, dict):
        return raw
    return raw | {
        "variants": {
            name: train | own if isinstance(own, dict) else own for name, own in variants.items()
        }
    }


def _first_causes(details: list[ErrorDetails]) -> list[ErrorDetails]:
    """Without the echo in every variant of what is already wrong in ``train``."""
    in_train = {detail["loc"][1:] for detail in details if detail["loc"][:1] == ("train",)}
    return [
        detail
        for detail in details
        if detail["loc"][:1] != ("variants",) or detail["loc"][2:] not in in_train
    ]


def _message(detail: ErrorDetails) -> str:
    where = ".".join(_location(detail)) or "the file"
    value, kind, context = detail["input"], detail["type"], detail.get("ctx", {})
    if kind == "missing":
        return f"{where} is missing"
    if kind == "value_error":
        # Messages of our own validators already name what is wrong with which value.
        return f"{where}: {context['error']}" if detail["loc"] else str(context["error"])
    if kind == "extra_forbidden":
        *section, key = _location(detail)
        known = _keys_at(section)
        hint = did_you_mean(key, known) or ";"
        return f"{where} (= {value!r}) is not a setting{hint} allowed here: {', '.join(known)}"
    near = ""
    if kind == "literal_error" and isinstance(value, str):
        near = did_you_mean(value, re.findall(r"'([^']+)'", context["expected"]))
    expected = _EXPECTED.get(kind, detail["msg"].removeprefix("Input should be ")).format(**context)
    return f"{where}: {value!r} is not allowed, expected {expected}{near}"


_EXPECTED = {
    "too_short": "at least {min_length}",
    "string_too_short": "some text",
    "string_too_long": "at most {max_length} characters",
    "string_pattern_mismatch": "text of the pattern {pattern}",
    "model_type": "a section of settings",
}
"""Where pydantic's own wording would puzzle a reader of YAML."""


def _location(detail: ErrorDetails) -> list[str]:
    """The keys that lead to a value, without pydantic's notes on unions and validators."""
    notes = ("function-", "literal[", "constrained-", "[key]")
    return [str(part) for part in detail["loc"] if not str(part).startswith(notes)]


def _keys_at(location: list[str]) -> list[str]:
    """The names of the settings allowed in the section at ``location``."""
    schema = Params.model_json_schema(by_alias=True)
    node: dict[str, Any] = schema
    for part in location:
        items = node.get("additionalProperties") or node.get("patternProperties", {}).values()
        any_key = items if isinstance(items, dict) else next(iter(items), {})
        node = node.get("properties", {}).get(part) or any_key
        for option in node.get("anyOf", [node]):
            if "$ref" in option:
                node = schema["$defs"][option["$ref"].rsplit("/", 1)[-1]]
    return list(node.get("properties", {}))


def json_schema() -> str:
    """The JSON schema of ``params.yaml`` as its author writes it, for editors to complete from."""
    schema = Params.model_json_schema(by_alias=True)
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "params.yaml"
    schema["$defs"]["VariantParams"]["required"] = ["model"]  # all else comes from `train`
    return json.dumps(schema, indent=2) + "\n"
