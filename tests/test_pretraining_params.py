"""``pretraining`` in ``params.yaml``: what cannot be is refused when the file is read."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from pipeline import params
from pipeline.errors import ConfigurationError

AUTOENCODER = {"epochs": 3, "batch_size": 16, "lr": 0.01, "masking": 0.2}
RBM = {
    "visible": "gaussian",
    "gibbs_steps": 1,
    "epochs": 3,
    "batch_size": 16,
    "lr": 0.01,
    "momentum": 0.5,
    "weight_decay": 0.0,
}
MLP = {"model": "mlp", "architecture": {"hidden": [5], "activation": "sigmoid"}}


@pytest.fixture
def load_variant(tmp_path, params_text):
    """Loads ``params.yaml`` with the one variant ``x`` of these settings."""

    def load(variant: dict[str, Any]) -> params.VariantParams:
        values = yaml.safe_load(params_text) | {"variants": {"x": variant}}
        values["compare"]["reference"] = None
        path = tmp_path / "params.yaml"
        path.write_text(yaml.safe_dump(values), encoding="utf-8")
        return params.load(path).variant("x")

    return load


@pytest.mark.parametrize(
    ("variant", "method"),
    [
        ({"model": "small_cnn", "pretraining": {"autoencoder": AUTOENCODER}}, "autoencoder"),
        (MLP | {"pretraining": {"rbm": RBM}}, "rbm"),
    ],
)
def test_a_variant_names_one_method_and_its_settings(load_variant, variant, method):
    pretraining = load_variant(variant).pretraining
    assert pretraining.method == method
    assert getattr(pretraining, method).epochs == 3


@pytest.mark.parametrize(
    ("variant", "message"),
    [
        ({"pretraining": {"autoencodr": AUTOENCODER}}, "did you mean 'autoencoder'?"),
        ({"pretraining": {}}, "x.pretraining: expected one of the sections autoencoder and rbm"),
        (
            {"pretraining": {"autoencoder": AUTOENCODER, "rbm": RBM}},
            "expected one of the sections autoencoder and rbm",
        ),
        (
            {"pretraining": {"autoencoder": AUTOENCODER | {"maskin": 0.1}}},
            "x.pretraining.autoencoder.maskin (= 0.1) is not a setting; did you mean 'masking'?",
        ),
        (
            {"pretraining": {"autoencoder": AUTOENCODER | {"masking": 1.0}}},
            "x.pretraining.autoencoder.masking: 1.0 is not allowed, expected less than 1",
        ),
        (
            {"pretraining": {"autoencoder": {"epochs": 1}}},
            "x.pretraining.autoencoder.lr is missing",
        ),
        (
            {"pretraining": {"autoencoder": AUTOENCODER}, "pretrained": "default"},
            "pretrained and pretraining both give the first weights",
        ),
        (
            {
                "pretraining": {"autoencoder": AUTOENCODER},
                "architecture": {"spatial_transformer": True},
            },
            "would learn to undo",
        ),
        ({"pretraining": {"rbm": RBM}}, "gives the weights of model: mlp"),
        (
            MLP | {"architecture": {"hidden": [5]}, "pretraining": {"rbm": RBM}},
            "activation: sigmoid",
        ),
        (
            MLP
            | {
                "architecture": MLP["architecture"] | {"normalisation": "batch"},
                "pretraining": {"rbm": RBM},
            },
            "architecture.normalisation has no counterpart",
        ),
        (MLP | {"pretraining": {"rbm": RBM | {"visible": "binary"}}}, "pretraining.rbm.visible"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(load_variant, variant, message):
    with pytest.raises(ConfigurationError) as refused:
        load_variant({"model": "small_cnn"} | variant)
    assert message in str(refused.value)
    assert "variants.x" in str(refused.value)


def test_what_is_missing_is_said_once_for_each_key(load_variant):
    with pytest.raises(ConfigurationError) as refused:
        load_variant({"model": "small_cnn", "pretraining": {"autoencoder": {"epochs": 1}}})
    missing = [f"x.pretraining.autoencoder.{key} is" for key in ("batch_size", "lr", "masking")]
    assert all(line in str(refused.value) for line in missing)
    assert len(str(refused.value).splitlines()) == 3
