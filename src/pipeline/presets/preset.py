"""``presets/NAME.yaml``: settings that belong together, and the published figure they are for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError

from pipeline.errors import ConfigurationError, did_you_mean
from pipeline.params import Params
from pipeline.presets.splice import Document, Keys

SUFFIX = ".yaml"


class Figure(BaseModel):
    """What was published, and is to be reached."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    accuracy: Annotated[float, Field(gt=0.0, le=100.0)]
    """Per cent of the test images."""
    parameters: PositiveInt | None
    """So many at most, where that belongs to the figure."""
    source: Annotated[str, Field(min_length=1)]


class Preset(BaseModel):
    """A file of the folder ``presets``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    data: str
    """Which data it is for."""
    ingest: str
    """The command that brings them, once the preset is in params.yaml."""
    figure: Figure
    params: dict[str, Any]
    """Settings as params.yaml nests them; what is not here stays as it is there."""


@dataclass(frozen=True)
class PresetFile:
    name: str
    document: Document
    preset: Preset

    @property
    def settings(self) -> list[Keys]:
        """The settings it has, each by the keys that lead to it."""
        return list(settings_in(self.preset.params))


def settings_in(
    values: Mapping[str, Any],
    section: type[BaseModel] = Params,
    above: Keys = (),
) -> Iterator[Keys]:
    """The keys of what is set as a whole: of a section of settings, each of them by itself."""
    fields = {field.alias or name: field for name, field in section.model_fields.items()}
    for key, value in values.items():
        kind = fields[key].annotation if key in fields else None
        if isinstance(kind, type) and issubclass(kind, BaseModel) and isinstance(value, Mapping):
            yield from settings_in(value, kind, (*above, key))
        else:
            yield (*above, key)


def preset_names(folder: Path) -> list[str]:
    """The presets in ``folder``, in the order of the alphabet."""
    return sorted(path.stem for path in folder.glob(f"*{SUFFIX}"))


def read_preset(folder: Path, name: str) -> PresetFile:
    """The preset ``name`` of ``folder``.

    Raises:
        ConfigurationError: there is none of this name, or its file is not one.
    """
    names = preset_names(folder)
    if name not in names:
        raise ConfigurationError(
            f"{folder.name}: there is no preset '{name}'{did_you_mean(name, names) or ';'}"
            f" there are: {', '.join(names) or 'none'}"
        )
    path = folder / f"{name}{SUFFIX}"
    shown = f"{folder.name}/{path.name}"
    try:
        document = Document(shown, path.read_text(encoding="utf-8"))
        return PresetFile(
            name, document, Preset.model_validate(yaml.safe_load(document.text), strict=False)
        )
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{shown} is not valid YAML: {error}") from error
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, detail['loc'])) or 'the file'}: {detail['msg'].lower()}"
            for detail in error.errors()
        ]
        raise ConfigurationError(f"{shown}: {'; '.join(problems)}") from None
