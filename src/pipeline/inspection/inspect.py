"""``python -m pipeline inspect NAME``: a variant of params.yaml, or a network by its own name."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import yaml

from pipeline.artifacts import read_json
from pipeline.errors import ConfigurationError, did_you_mean
from pipeline.inspection.layer_table import LEGEND, as_json, layer_table
from pipeline.inspection.layers import Anatomy, anatomy
from pipeline.inspection.specimen import Subject, blank, usual_subjects
from pipeline.inspection.wording import console_of_tables
from pipeline.params import Params
from pipeline.vision.models import MODELS, ORIGINS, check_model, list_models
from pipeline.workspace import Workspace

WIDE = 170
"""Columns of a terminal from which on the table shows how each side follows."""


def inspect(
    name: str,
    project: tuple[Workspace, Params] | None,
    *,
    image_size: int | None = None,
    channels: int | None = None,
    num_classes: int | None = None,
    architecture: str | None = None,
    as_model: bool = False,
    json: bool = False,
    figure: Path | None = None,
) -> None:
    """Print the layers of a network and, if asked for, draw them.

    Args:
        name: a variant, or a network as a variant's ``model`` names it.
        project: None outside of a project: then there are networks alone.
        image_size: other than the variant's, or than the network's usual one; so are the following.
        channels: of the images.
        num_classes: how many logits.
        architecture: arguments of the network as YAML, such as ``{width: 16}``.
        as_model: take ``name`` for a network's, also where a variant is called so.
        json: print JSON in place of the table.
        figure: the .svg or .png file to draw to.

    Raises:
        ConfigurationError: there is neither such a variant nor such a network, it cannot be built
            so, or the figure's file has another ending.
    """
    if figure is not None and figure.suffix not in (".svg", ".png"):
        raise ConfigurationError(
            f"--figure {figure}: '{figure.suffix}' is no kind of file that can be drawn; end the"
            " name in .svg or .png"
        )
    asked = {"image_size": image_size, "channels": channels, "num_classes": num_classes}
    arguments = _arguments(architecture)
    variants = {} if project is None or as_model else project[1].variants
    if project is not None and name in variants:
        subjects = [_changed(_of_variant(*project, name), asked, arguments)]
        where = f"variants.{name}"
    else:
        _check_name(name, list(variants))
        usual = usual_subjects(name, **asked)
        subjects = [dataclasses.replace(each, architecture=arguments) for each in usual]
        where = "model"
    subject, found = _look(subjects, where=where)
    if json:
        sys.stdout.write(as_json(subject, found) + "\n")
    else:
        _print(subject, found)
    if figure is not None:
        from pipeline.inspection.figure import draw

        draw(subject, found, figure)


def _look(subjects: list[Subject], *, where: str) -> tuple[Subject, Anatomy]:
    """The first of them that can be built, and what it consists of."""
    for subject in subjects:
        try:
            net = blank(subject, where=where)
        except ConfigurationError as error:
            if subject is subjects[-1]:
                text = str(error).removeprefix("params.yaml: ")
                raise ConfigurationError(text) from None
            continue
        return subject, anatomy(net, channels=subject.channels, image_size=subject.image_size)
    raise AssertionError("no subjects")


def _of_variant(workspace: Workspace, params: Params, name: str) -> Subject:
    """The variant as it is trained, or would be: the data says what it says by now."""
    settings, channels = params.variant(name), params.augment.channels
    packed: dict[str, Any] = {}
    if (path := workspace.packed / "packed.json").is_file():
        packed = read_json(path)
    classes = packed.get("classes") or (
        read_json(workspace.classes)["classes"] if workspace.classes.is_file() else range(10)
    )
    colours = packed.get("channels") or (1 if channels == "auto" else channels)
    return Subject(
        settings.model, settings.image_size, colours, len(classes), settings.architecture
    )


def _changed(subject: Subject, asked: dict[str, int | None], arguments: dict[str, Any]) -> Subject:
    """``subject`` with what was asked for, None for nothing, and with ``arguments`` of its own."""
    given: dict[str, Any] = {key: value for key, value in asked.items() if value is not None}
    return dataclasses.replace(subject, **given, architecture=subject.architecture | arguments)


def _arguments(architecture: str | None) -> dict[str, Any]:
    if architecture is None:
        return {}
    try:
        value = yaml.safe_load(architecture)
    except yaml.YAMLError:
        value = None
    if not isinstance(value, dict):
        raise ConfigurationError(
            f"--architecture {architecture!r}: expected arguments of the network as YAML, such as"
            " '{width: 16, dropout: 0.1}'"
        )
    return value


def _check_name(name: str, variants: list[str]) -> None:
    if name in MODELS:
        return
    if name.partition(":")[0] in ORIGINS:
        try:
            check_model(name, where="")
        except ConfigurationError as error:
            raise ConfigurationError(str(error).removeprefix("params.yaml: : ")) from None
        return
    known = [*variants, *list_models()]
    hint = did_you_mean(name, known) or ";"
    raise ConfigurationError(
        f"inspect: '{name}' is no variant of params.yaml and no network{hint}"
        f" variants: {', '.join(variants) or 'none here'};"
        " 'python -m pipeline models' lists the networks"
    )


def _print(subject: Subject, found: Anatomy) -> None:
    console = console_of_tables()
    arguments = ", ".join(f"{key}: {value}" for key, value in subject.architecture.items())
    console.print(subject.described + (f" ({arguments})" if arguments else ""), markup=False)
    console.print(layer_table(found, sides=console.width >= WIDE))
    for line in LEGEND:
        console.print(line, style="dim", markup=False)
