"""Presets: each fits params.yaml, and writing one changes its settings and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipeline.errors import ConfigurationError
from pipeline.inspection.layers import anatomy
from pipeline.inspection.specimen import Subject, blank
from pipeline.params import load
from pipeline.presets.apply import apply_preset, list_presets, with_preset
from pipeline.presets.preset import preset_names, read_preset
from pipeline.presets.splice import Document, Written, splice
from pipeline.settings import check_settings
from pipeline.workspace import Workspace
from tests.project import PROJECT

PRESETS = PROJECT / "presets"
NAMES = preset_names(PRESETS)


@pytest.fixture
def workspace(tmp_path: Path, params_text: str) -> Workspace:
    (tmp_path / "params.yaml").write_text(params_text, encoding="utf-8")
    (tmp_path / "presets").symlink_to(PRESETS)
    return Workspace(tmp_path)


def comments(text: str) -> list[str]:
    return [line[line.index("#") :] for line in text.splitlines() if "#" in line]


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_fits_params_yaml(workspace, params_text, name):
    found = read_preset(PRESETS, name)
    text = with_preset(Document("params.yaml", params_text), found).text
    workspace.params.write_text(text, encoding="utf-8")
    params = load(workspace.params)
    check_settings(params)
    (variant,) = params.variants.values()
    subject = Subject(variant.model, variant.image_size, 1, 10, variant.architecture)
    parameters = anatomy(blank(subject), channels=1, image_size=variant.image_size).parameters
    assert parameters <= (found.preset.figure.parameters or parameters)
    written = yaml.safe_load(text)
    for keys in found.settings:
        value, wanted = written, found.preset.params
        for key in keys:
            value, wanted = value[key], wanted[key]
        assert value == wanted, keys


def test_all_presets_set_the_same_settings_so_that_none_is_left_of_another():
    first, *others = [set(read_preset(PRESETS, name).settings) for name in NAMES]
    for name, settings in zip(NAMES[1:], others, strict=True):
        assert settings == first, (name, settings ^ first)


def test_several_values_are_replaced_together():
    changes = {
        ("a",): Written(("2",), False),
        ("b",): Written(("x: 1", "y: 2"), True),
        ("e", "f"): Written(("10",), False),
        ("e", "g"): Written(("20",), False),
    }
    after = splice(Document("small.yaml", SMALL), changes).text
    assert yaml.safe_load(after) == {
        "a": 2,
        "b": {"x": 1, "y": 2},
        "e": {"f": 10, "g": 20},
        "h": [1, 2],
        "i": 3,
    }


@pytest.mark.parametrize("name", ["solar-cells-deitsch", "mnist-capsnet", "fashion-densenet"])
def test_one_preset_after_another_gives_what_the_second_alone_gives(params_text, name):
    original = Document("params.yaml", params_text)
    second = read_preset(PRESETS, "mnist-shifted")
    after_first = with_preset(original, read_preset(PRESETS, name))
    both = with_preset(after_first, second)
    assert yaml.safe_load(both.text) == yaml.safe_load(with_preset(original, second).text)


def test_what_a_preset_does_not_set_stays_byte_for_byte(params_text):
    found = read_preset(PRESETS, "mnist-dropout")
    after = with_preset(Document("params.yaml", params_text), found).text
    for section in ("scan:", "labels:", "flow:"):
        start = params_text.index(f"\n{section}")
        end = params_text.find("\n\n", start)
        assert params_text[start:end] in after
    lost = set(comments(params_text)) - set(comments(after))
    replaced_whole = ("  table:", "  limits:"), ("  policy:", "  preview:")
    inside = [params_text[params_text.index(a) : params_text.index(b)] for a, b in replaced_whole]
    assert [comment for comment in lost if not any(comment in part for part in inside)] == []
    assert list(yaml.safe_load(after)) == list(yaml.safe_load(params_text))


def test_a_preset_is_written_and_shown_as_a_difference(workspace, capsys):
    apply_preset(workspace, "mnist-relu", dry_run=False)
    shown = capsys.readouterr().out
    assert "-    model: small_cnn" in shown
    assert "+    model: nielsen" in shown
    assert load(workspace.params).variants["relu"].architecture["maps"] == [20, 40]
    assert load(workspace.params).split.ratios.test == 0.1


def test_a_dry_run_writes_nothing(workspace, params_text, capsys):
    apply_preset(workspace, "mnist-relu", dry_run=True)
    assert "+    model: nielsen" in capsys.readouterr().out
    assert workspace.params.read_text(encoding="utf-8") == params_text
    assert not workspace.state.exists()


def test_writing_a_preset_twice_changes_nothing(workspace, capsys):
    apply_preset(workspace, "mnist-relu", dry_run=False)
    text = workspace.params.read_text(encoding="utf-8")
    capsys.readouterr()
    apply_preset(workspace, "mnist-relu", dry_run=False)
    assert capsys.readouterr().out == ""
    assert workspace.params.read_text(encoding="utf-8") == text


def test_what_git_cannot_bring_back_is_copied(workspace, params_text):
    apply_preset(workspace, "mnist-relu", dry_run=False)
    (copy,) = workspace.state.glob("params-*.yaml")
    assert copy.read_text(encoding="utf-8") == params_text


def test_what_git_can_bring_back_is_not_copied(workspace):
    for command in (
        ["git", "init", "-q"],
        ["git", "add", "params.yaml"],
        ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "first"],
    ):
        subprocess.run(command, cwd=workspace.root, check=True)
    apply_preset(workspace, "mnist-relu", dry_run=False)
    assert not workspace.state.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("title: [", "is not valid YAML"),
        ("title: a\n", "data: field required"),
        ("colour: red\n", "colour: extra inputs are not permitted"),
    ],
)
def test_a_damaged_preset_is_named(tmp_path, content, message):
    (tmp_path / "mine.yaml").write_text(content, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"mine\.yaml") as caught:
        read_preset(tmp_path, "mine")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("    lr: 0.01", "    lrr: 0.01", "no key train.lrr"),
        ("      model: nielsen", "      model: nielson", "did you mean 'nielsen'"),
        ("maps: [20, 40]", "maps: [20, 40, 60]", "nielsen"),
        ("    optimizer: muon", "    optimizer: moun", "did you mean 'muon'"),
        ("duplicates_across_splits:", "duplicate_across_splits:", "duplicates_across_splits"),
        ("    policy: null", "    policy: {blurr: {}}", "did you mean 'blur'"),
    ],
)
def test_a_preset_that_does_not_fit_leaves_params_yaml_as_it_was(
    workspace, params_text, old, new, message
):
    text = (PRESETS / "mnist-relu.yaml").read_text(encoding="utf-8")
    assert old in text
    (workspace.root / "presets").unlink()
    workspace.presets.mkdir()
    (workspace.presets / "mine.yaml").write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(ConfigurationError) as caught:
        apply_preset(workspace, "mine", dry_run=False)
    assert message in str(caught.value)
    assert workspace.params.read_text(encoding="utf-8") == params_text


def test_a_wrong_name_gets_the_nearest_match():
    with pytest.raises(ConfigurationError, match="did you mean 'mnist-lenet5'"):
        read_preset(PRESETS, "mnist-lenet")


def test_the_list_has_every_preset_with_its_figure(workspace, capsys):
    list_presets(workspace)
    shown = capsys.readouterr().out
    for name in NAMES:
        assert name in shown
    assert "99.60 %" in shown


SMALL = """\
# first
a: 1        # one
b:          # two
            # more of it
  c: x   # three
  d: y

e: {f: 1, g: 2}   # four
h: [1,
    2]
i: 3
"""


@pytest.mark.parametrize(
    ("keys", "new", "expected"),
    [
        (("a",), Written(("12",), False), SMALL.replace("a: 1        #", "a: 12       #")),
        (("a",), Written(("k: 1", "l: 2"), True), SMALL.replace("1        #", "         #", 1)
         .replace("# one\n", "# one\n  k: 1\n  l: 2\n")),
        (("b",), Written(("none",), False), SMALL.replace("b:     ", "b: none", 1)
         .replace("  c: x   # three\n  d: y\n", "")),
        (("b",), Written(("m: 1  # new",), True),
         SMALL.replace("  c: x   # three\n  d: y\n", "  m: 1  # new\n")),
        (("b", "c"), Written(("a long word",), False),
         SMALL.replace("c: x   # three", "c: a long word  # three")),
        (("e", "g"), Written(("30",), False), SMALL.replace("g: 2}   #", "g: 30}  #")),
        (("h",), Written(("[]",), False), SMALL.replace("[1,\n    2]", "[]")),
        (("i",), Written(("4",), False), SMALL.replace("i: 3", "i: 4")),
    ],
)  # fmt: skip
def test_a_value_is_replaced_and_nothing_else(keys, new, expected):
    assert splice(Document("small.yaml", SMALL), {keys: new}).text == expected


def test_the_command_needs_no_torch_to_show_the_list():
    code = (
        "import sys, pipeline.__main__ as main\n"
        "try: main.app(['preset', '--list'])\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert "mnist-capsnet" in done.stdout
