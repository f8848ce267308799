from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline import params
from pipeline.errors import ConfigurationError
from pipeline.params import reading


@pytest.fixture
def load_text(tmp_path: Path):
    def load(text: str) -> params.Params:
        path = tmp_path / "params.yaml"
        path.write_text(text, encoding="utf-8")
        return params.load(path)

    return load


def edited(text: str, **changes: object) -> str:
    """``params.yaml`` with values set at dotted keys (``__`` for a dot); `...` removes the key."""
    raw = yaml.safe_load(text)
    for dotted, value in changes.items():
        *parents, last = dotted.split("__")
        node = raw
        for key in parents:
            node = node[key]
        if value is ...:
            del node[last]
        else:
            node[last] = value
    return yaml.safe_dump(raw)


def test_a_variant_has_the_common_settings_with_its_own_over_them(load_text, params_text):
    loaded = load_text(edited(params_text, train__momentum=0.8, variants__resnet18__lr=0.123))
    assert loaded.variant("resnet18").momentum == 0.8
    assert loaded.variant("resnet18").lr == 0.123
    assert loaded.train.lr != 0.123


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train__lr": ...}, "train.lr is missing"),
        ({"train__lr": -1}, "train.lr: -1 is not allowed, expected greater than 0"),
        ({"train__learning_rate": 1}, "train.learning_rate (= 1) is not a setting"),
        ({"train__epoch": 1}, "did you mean 'epochs'?"),
        ({"train__optimizer": "sdg"}, "did you mean 'sgd'?"),
        ({"trian": {}}, "did you mean 'train'?"),
        ({"variants__resnet18__epoch": 3}, "variants.resnet18.epoch (= 3) is not a setting"),
        ({"variants__resnet18__epoch": 3}, "did you mean 'epochs'?"),
        ({"variants__resnet18__model": ...}, "variants.resnet18.model is missing"),
        ({"variants__resnet18__image_size": 2000}, "above augment.image_size"),
        ({"variants": {}}, "variants: {} is not allowed"),
        ({"variants__a b": {"model": "x"}}, "variants.a b: 'a b' is not allowed"),
        ({"split__ratios__train": 0.9}, "split.ratios: train, val and test add up to 1.2"),
        ({"validation__min_side": 20_000}, "min_side 20000 is above max_side"),
        ({"ingest__weight__points": [[1, 0], [0, 1]]}, "must ascend"),
        ({"flow__ports__mlflow": 4200}, "both servers cannot use port 4200"),
        ({"labels__variant": "resnet81"}, "labels.variant: 'resnet81' is not under variants"),
        ({"evaluate__resamples": "many"}, "evaluate.resamples: 'many' is not allowed"),
        ({"train__lr": float("nan")}, "train.lr"),
        ({"train__processes": 17}, "train: 17 processes cannot share a batch of 32"),
        ({"train__epochs": True}, "train.epochs: True is not allowed, expected a number"),
        ({"train__early_stopping": True}, "train.early_stopping: True is not allowed, expected a"),
        ({"train__processes": True}, "train.processes: True is not allowed, expected a number"),
        ({"augment__shifts": False}, "augment.shifts: False is not allowed, expected a number"),
    ],
)
def test_a_wrong_setting_gets_one_message_that_names_it(load_text, params_text, changes, message):
    with pytest.raises(ConfigurationError) as caught:
        load_text(edited(params_text, **changes))
    assert message in str(caught.value)
    assert "params.yaml" in str(caught.value)


def test_what_is_wrong_in_train_is_not_repeated_for_every_variant(load_text, params_text):
    with pytest.raises(ConfigurationError) as caught:
        load_text(edited(params_text, train__momentum=7))
    assert len(str(caught.value).splitlines()) == 1


def test_a_key_written_twice_is_refused_with_its_line(load_text, params_text):
    with pytest.raises(ConfigurationError, match=r"line \d+: 'scan' is there twice"):
        load_text(params_text + "\nscan: {}\n")


def test_a_key_that_is_no_word_is_refused_with_its_line(load_text, params_text):
    with pytest.raises(ConfigurationError, match=r"line \d+: a key is a word, not {'a': 1}"):
        load_text(params_text + "\n? {a: 1}\n: 2\n")


def test_an_exponent_without_a_dot_is_a_number(load_text, params_text):
    text = params_text.replace("weight_decay: 0.02", "weight_decay: 2e-2")
    assert load_text(text).train.weight_decay == 2e-2


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "train: [", "\x00"])
def test_a_file_that_is_no_mapping_is_refused(load_text, text):
    with pytest.raises(ConfigurationError):
        load_text(text)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match="missing"):
        params.load(tmp_path / "params.yaml")


def test_an_unknown_variant_gets_the_nearest_name(load_text, params_text):
    with pytest.raises(ConfigurationError, match="did you mean 'resnet18'"):
        load_text(params_text).variant("resnt18")


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=5), st.lists))
def test_any_value_is_accepted_or_refused_by_name(value):
    text = (Path(__file__).parent.parent / "params.yaml").read_text(encoding="utf-8")
    raw = reading._with_common_settings(yaml.safe_load(text) | {"scan": value})
    try:
        params.Params.model_validate(raw)
    except ValidationError as error:
        assert all(reading._message(detail).startswith("scan") for detail in error.errors())
    else:
        pytest.fail("a value that is no section was accepted")


def test_settings_cannot_be_changed_after_reading(load_text, params_text):
    loaded = load_text(params_text)
    with pytest.raises(ValidationError):
        loaded.train.lr = 1.0


def test_the_committed_schema_is_that_of_the_models(project):
    committed = (project / "params.schema.json").read_text(encoding="utf-8")
    assert committed == params.json_schema(), "run 'make schema'"


def test_a_variants_policy_is_its_own_or_the_augment_stages(load_text, params_text):
    own = {"flip": {"horizontal": 0.5}}
    loaded = load_text(edited(params_text, augment__policy="light", variants__resnet18__policy=own))
    assert loaded.policy("resnet18") == (own, "variants.resnet18.policy")
    assert loaded.policy("small_cnn") == ("light", "augment.policy")
    loaded = load_text(edited(params_text, train__policy="strong"))
    assert loaded.policy("small_cnn") == ("strong", "train.policy")


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (3, "augment.policy: 3 is not allowed, expected a name or a section"),
        ({"flip": 1}, "augment.policy: flip: 1 is not allowed, expected a section"),
        ({"flip": {"horizontal": "x"}}, "flip.horizontal: 'x' is not allowed, expected a number"),
        ({"flip": {"horizontal": True}}, "flip.horizontal: True is not allowed"),
        ({"flip": {"horizontal": float("nan")}}, "flip.horizontal: nan is not allowed"),
    ],
)
def test_a_policy_of_another_form_is_refused_in_one_line(load_text, params_text, policy, message):
    with pytest.raises(ConfigurationError) as error:
        load_text(edited(params_text, augment__policy=policy))
    assert message in str(error.value)
    assert "\n" not in str(error.value)
