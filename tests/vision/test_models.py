"""Networks: every name gives logits for grey and colour, every slip gets the nearest match."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from pipeline.errors import ConfigurationError
from pipeline.vision.models import (
    MODELS,
    Classifier,
    build,
    check_model,
    list_models,
    module_file,
)

THEIRS = (
    "torchvision:resnet18",
    "torchvision:squeezenet1_1",
    "timm:regnetx_002",
    "timm:resnet10t",
)


def make(model: str, **changes: object) -> Classifier:
    channels = int(str(changes.get("channels", 1)))
    arguments = {
        "channels": channels,
        "num_classes": 3,
        "image_size": 64,
        "architecture": {},
        "mean": [0.4] * channels,
        "std": [0.2] * channels,
    }
    return build(model, **(arguments | changes))


@pytest.mark.parametrize("model", ["small_cnn", *THEIRS])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_network_gives_logits_and_a_gradient_to_every_parameter(model, channels):
    torch.manual_seed(0)
    classifier = make(model, channels=channels)
    assert classifier.training
    # A zero-initialised branch passes nothing back in its first step: give it a value.
    for name, parameter in classifier.named_parameters():
        if parameter.ndim == 1 and name.endswith("weight"):
            nn.init.ones_(parameter)
    logits = classifier(torch.rand(4, channels, 64, 64))
    assert logits.shape == (4, 3)
    assert logits.dtype == torch.float32
    nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2, 0])).backward()
    silent = [name for name, p in classifier.named_parameters() if p.grad is None]
    assert silent == []


@pytest.mark.parametrize("model", ["small_cnn", *THEIRS])
def test_one_channel_stays_one_channel(model):
    first = next(m for m in make(model).modules() if isinstance(m, nn.Conv2d))
    assert first.in_channels == 1


def test_equal_seeds_give_equal_networks():
    states = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        states.append(make("small_cnn").state_dict())
    same, other = (
        all(torch.equal(states[0][name], state[name]) for name in state) for state in states[1:]
    )
    assert same
    assert not other


def test_small_cnn_is_small():
    assert 300_000 < make("small_cnn").num_parameters < 500_000
    assert make("small_cnn", architecture={"width": 16}).num_parameters < 150_000


def test_normalisation_is_inside_and_does_not_blow_up_a_constant_channel():
    classifier = make("small_cnn", channels=3, mean=[0.1, 0.5, 0.9], std=[0.5, 0.25, 0.0])
    images = torch.tensor([0.6, 0.5, 0.9]).view(1, 3, 1, 1).expand(1, 3, 64, 64)
    normalised = classifier.normalise(images)
    torch.testing.assert_close(
        normalised[0, :, 0, 0], torch.tensor([1.0, 0.0, 0.0]), rtol=0, atol=1e-4
    )
    assert not [name for name in classifier.state_dict() if name.startswith("normalise")]


def test_a_grey_image_gives_what_it_gave_in_three_equal_colours():
    torch.manual_seed(0)
    colour = make("torchvision:resnet18", channels=3).eval()
    torch.manual_seed(0)
    grey = make("torchvision:resnet18", channels=1).eval()
    image = torch.rand(2, 1, 64, 64)
    torch.testing.assert_close(grey(image), colour(image.expand(2, 3, 64, 64)))


@pytest.mark.parametrize("model", ["torchvision:googlenet", "torchvision:inception_v3"])
def test_auxiliary_heads_are_left_out(model):
    classifier = make(model, image_size=96)
    assert isinstance(classifier(torch.rand(2, 1, 96, 96)), torch.Tensor)


@pytest.mark.parametrize("model", ["timm:vit_tiny_patch16_224", "torchvision:maxvit_t"])
def test_a_network_made_for_one_size_is_made_for_ours(model):
    assert make(model, image_size=224 if "maxvit" in model else 64).num_classes == 3


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("smal_cnn", "'smal_cnn' is not a model; did you mean 'small_cnn'"),
        ("resnet18", "torchvision:NAME or timm:NAME"),
        ("torchvision:resnt18", "did you mean 'torchvision:resnet18'"),
        ("timm:regnetx002", "did you mean 'timm:regnetx_002'"),
        ("torchvison:resnet18", "did you mean 'torchvision:resnet18'"),
        ("torchvision:", "is not a model"),
        ("torchvision:fcn_resnet50", "is not a model"),
        ("timm:hf-hub:someone/something", "is not a model"),
        ("", "is not a model"),
    ],
)
def test_an_unknown_name_gets_the_nearest_match(model, message):
    with pytest.raises(ConfigurationError, match=message) as error:
        check_model(model, where="variants.x.model")
    assert "variants.x.model" in str(error.value)


@pytest.mark.parametrize(
    ("model", "changes", "message"),
    [
        ("small_cnn", {"architecture": {"widht": 8}}, "architecture.widht.*did you mean 'width'"),
        ("small_cnn", {"architecture": {"width": "big"}}, "width is 'big'"),
        ("small_cnn", {"architecture": {"width": 0}}, "width is 0"),
        ("small_cnn", {"architecture": {"dropout": 1.0}}, "dropout is 1.0"),
        ("small_cnn", {"architecture": {"dropout": "much"}}, "dropout"),
        ("small_cnn", {"image_size": 8}, "at least 16 px"),
        ("torchvision:resnet18", {"architecture": {"depth": 5}}, "cannot be built.*depth"),
        ("torchvision:resnet18", {"architecture": {"weights": "DEFAULT"}}, "architecture.weights"),
        ("timm:regnetx_002", {"architecture": {"pretrained": True}}, "architecture.pretrained"),
        ("timm:regnetx_002", {"architecture": {"colour": True}}, "cannot be built.*colour"),
        (
            "timm:regnetx_002",
            {"architecture": {"global_pool": ""}},
            "global_pool.*cannot take 64 px",
        ),
        ("torchvision:alexnet", {"image_size": 16}, "cannot take 16 px images of 1 channels"),
        ("torchvision:inception_v3", {"image_size": 32}, "cannot take 32 px"),
    ],
)
def test_what_cannot_be_built_is_refused_before_training(model, changes, message):
    with pytest.raises(ConfigurationError, match=message) as error:
        make(model, where="variants.x", **changes)
    assert "\n" not in str(error.value)


def test_the_list_has_all_origins_and_can_be_searched():
    names = list_models()
    assert names[: len(MODELS)] == list(MODELS)
    assert "torchvision:resnet18" in names
    assert "timm:regnetx_002" in names
    assert len(names) == len(set(names)) > 500
    found = list_models("regnetx_00")
    assert found
    assert all("regnetx_00" in name for name in found)


@pytest.mark.parametrize("model", [*MODELS, *THEIRS])
def test_a_models_code_is_one_file_of_this_folder(model):
    path = module_file(model)
    assert path.parent.name == "models"
    assert path.is_file()
    assert path.name != "__init__.py"
    origin, colon, _ = model.partition(":")
    if colon:
        assert path.stem == f"{origin}_models"
    else:
        assert f"\ndef {model}(" in path.read_text(encoding="utf-8")


def test_a_network_that_gives_no_logits_is_refused(monkeypatch):
    class TwoHeads(nn.Module):
        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return images.mean((2, 3)), images.amax((2, 3))

    monkeypatch.setitem(MODELS, "two_heads", lambda **_: TwoHeads())
    with pytest.raises(ConfigurationError, match=r"returns tuple.*logits of shape \(1, 3\)"):
        make("two_heads")


def test_own_names_are_checked_without_importing_a_library():
    code = (
        "import sys; from pipeline.vision.models import check_model;"
        "check_model('small_cnn', where='x'); print({'torchvision', 'timm'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
