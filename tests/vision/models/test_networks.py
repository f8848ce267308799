"""Every network of the table: shapes, gradients, sizes, parameters, and what it is refused."""

from __future__ import annotations

import hashlib
import json
import re

import pytest
import torch
from torch import nn

from pipeline.errors import ConfigurationError
from pipeline.training.objective import Labels
from pipeline.vision.card import ModelCard, load_classifier, save_model
from pipeline.vision.models import MODELS, check_architecture, code_files, module_file
from pipeline.vision.models.layers import head_layers
from pipeline.vision.models.outputs import logits_in

LARGE = (
    *("alexnet", "vgg11", "vgg16", "vgg19", "googlenet", "inception_v3"),
    *("resnet18_small", "resnet34_small", "resnet50_small", "densenet_bc100", "densenet121"),
    *("mobilenet_v2", "capsnet"),
)
"""Networks whose numbers take seconds to compute."""
QUICK = [pytest.param(m, marks=pytest.mark.slow) if m in LARGE else m for m in MODELS]
SHAPES = [
    *((model, 3, 65) for model in MODELS),
    *(pytest.param(m, 1, 28, marks=pytest.mark.slow if m in LARGE else ()) for m in MODELS),
]

PARAMETERS = [
    # Published, or those of the library for the same layers; the sum where both are missing.
    ("mlp", {}, (1, 10, 28), 266_610),
    ("mlp", {"hidden": [100]}, (1, 10, 28), 79_510),
    ("mlp", {"hidden": []}, (1, 10, 28), 7_850),
    ("nielsen", {"maps": [20]}, (1, 10, 28), 520 + 288_100 + 1_010),
    ("nielsen", {}, (1, 10, 28), 520 + 20_040 + 64_100 + 1_010),
    ("nielsen", {"dense": [1000, 1000], "dropout": 0.5}, (1, 10, 28), 1_672_570),
    ("lenet1", {}, (1, 10, 28), 3_246),
    ("lenet4", {}, (1, 10, 32), 51_050),
    ("lenet5", {}, (1, 10, 28), 61_706),
    ("lenet5", {}, (1, 10, 32), 61_706),
    (
        "lenet5",
        {"pooling": "subsampling", "connections": "published", "output": "rbf"},
        (1, 10, 32),
        60_000,
    ),
    ("alexnet", {}, (3, 1000, 224), 61_100_840),
    ("vgg11", {"batch_norm": False, "head": "published"}, (3, 1000, 224), 132_863_336),
    ("vgg16", {"batch_norm": False, "head": "published"}, (3, 1000, 224), 138_357_544),
    ("vgg19", {"batch_norm": False, "head": "published"}, (3, 1000, 224), 143_667_240),
    ("vgg16", {"batch_norm": False}, (3, 10, 32), 14_714_688 + 5_130),
    # torchvision's, and 16 more places in each kernel that is 5×5 in the paper and 3×3 there.
    (
        "googlenet",
        {"auxiliary_weight": 0.0},
        (3, 1000, 224),
        6_624_904
        + 16 * (16 * 32 + 32 * 96 + 16 * 48 + 2 * 24 * 64 + 32 * 64 + 2 * 32 * 128 + 48 * 128),
    ),
    ("inception_v3", {}, (3, 1000, 299), 27_161_264),
    ("inception_v3", {"auxiliary_weight": 0.0}, (3, 1000, 299), 23_834_568),
    ("resnet18_small", {}, (3, 10, 32), 11_173_962),
    ("resnet18_small", {"stem": "imagenet"}, (3, 1000, 224), 11_689_512),
    ("resnet34_small", {"stem": "imagenet"}, (3, 1000, 224), 21_797_672),
    ("resnet50_small", {"stem": "imagenet"}, (3, 1000, 224), 25_557_032),
    ("densenet_bc100", {}, (3, 10, 32), 769_162),
    ("densenet121", {}, (3, 1000, 224), 7_978_856),
    ("mobilenet_v2", {}, (3, 1000, 224), 3_504_872),
    ("fast_resnet", {"width": 64}, (3, 10, 32), 6_573_120),
    ("capsnet", {}, (1, 10, 28), 8_215_568),
    ("capsnet", {}, (1, 10, 28), 6_804_224 + 1_411_344),
    ("ensemble", {"of": "lenet5", "members": 3}, (1, 10, 28), 3 * 61_706),
]


@pytest.mark.parametrize(("model", "architecture", "shape", "expected"), PARAMETERS)
def test_a_network_has_as_many_parameters_as_published(make, model, architecture, shape, expected):
    channels, num_classes, image_size = shape
    with torch.device("meta"):
        classifier = make(
            model, channels, num_classes, image_size=image_size, architecture=architecture
        )
    assert classifier.num_parameters == expected


def test_every_family_has_its_parameters_counted():
    assert {model for model, *_ in PARAMETERS} == set(MODELS) - {"small_cnn"}


@pytest.mark.parametrize(("model", "channels", "image_size"), SHAPES)
def test_a_network_takes_images_of_many_sizes_and_gives_every_parameter_a_gradient(
    make, model, channels, image_size
):
    with torch.device("meta"):
        classifier = make(model, channels, image_size=image_size)
        pixels = torch.rand(4, channels, image_size, image_size)
        targets = torch.tensor([0, 1, 2, 0])
        outputs = classifier(pixels)
        assert logits_in(outputs).shape == (4, 3)
        Labels(targets, torch.ones(4), None, 0.1).loss(classifier, outputs, pixels).backward()
        silent = [name for name, p in classifier.named_parameters() if p.grad is None]
        assert silent == []
        classifier.eval()
        logits = classifier(pixels)
    assert isinstance(logits, torch.Tensor)
    assert logits.shape == (4, 3)
    heads = [classifier.get_submodule(name) for name in head_layers(classifier)]
    assert heads
    if model != "capsnet":  # whose logits are lengths
        assert all(isinstance(head, nn.Linear) and head.out_features == 3 for head in heads)


@pytest.mark.parametrize("model", list(MODELS))
def test_images_that_are_too_small_are_refused_with_the_smallest_that_would_do(model):
    def check(image_size: int) -> None:
        check_architecture(model, image_size=image_size, architecture={}, where="variants.x")

    try:
        check(4)
    except ConfigurationError as error:
        found = re.search(r"at least (\d+) px, not 4", str(error))
        assert found
        assert str(error).startswith("params.yaml: variants.x: ")
        smallest = int(found[1])
        check(smallest)
        with pytest.raises(ConfigurationError, match=f"at least {smallest} px"):
            check(smallest - 1)


@pytest.mark.parametrize("model", [model for model in MODELS if model not in LARGE])
def test_a_network_learns_a_simple_task(make, model):
    torch.manual_seed(0)
    classifier = make(model, num_classes=2)
    images = torch.rand(8, 1, 28, 28)
    targets = torch.arange(8) % 2
    images[targets == 1, :, 8:16, :] = 1.0
    labels = Labels(targets, torch.ones(8), None, 0.0)
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=0.001)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        loss = labels.loss(classifier, classifier(images), images)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert min(losses[-3:]) < 0.9 * losses[0]


@pytest.mark.parametrize("model", QUICK)
def test_a_network_comes_back_from_its_folder_and_predicts_the_same_each_time(
    make, model, tmp_path
):
    torch.manual_seed(0)
    classifier = make(model, num_classes=2).eval()
    card = ModelCard(
        variant="x",
        model=model,
        architecture={},
        classes=("good", "bad"),
        channels=1,
        image_size=28,
        stored_size=28,
        mean=(0.4,),
        std=(0.2,),
        data_digest="d" * 64,
        training_key="k" * 64,
        seed=0,
        parameters=classifier.num_parameters,
        plan={"precision": "float32", "memory_format": "channels_last"},
    )
    save_model(tmp_path / "model", classifier, card, [])
    again, _ = load_classifier(tmp_path / "model")
    images = torch.rand(2, 1, 28, 28)
    with torch.inference_mode():
        logits = classifier(images)
        assert torch.equal(classifier(images), logits)
        torch.testing.assert_close(again(images), logits, rtol=1e-4, atol=1e-4)
    assert logits.isfinite().all()


@pytest.mark.parametrize("model", list(MODELS))
def test_a_front_stands_before_every_network(make, model):
    front = {"spatial_transformer": True, "low_pass": 0.3, "fixed_kernels": ["identity", "sobel"]}
    with torch.device("meta"):
        classifier = make(model, 3, image_size=32, architecture=front)
        assert classifier.front is not None
        assert classifier.eval()(torch.rand(2, 3, 32, 32)).shape == (2, 3)
        assert classifier.channels == 3


def test_only_what_makes_a_network_is_its_code():
    def names(model: str, **architecture: object) -> set[str]:
        return {file.stem for file in code_files(model, architecture)}

    assert names("small_cnn") >= {"small_cnn", "kit", "normalisation"}
    assert not names("small_cnn") & {"fast_resnet", "front", "kernels", "table"}
    assert names("small_cnn", fixed_kernels=["sobel"]) >= {"small_cnn", "front", "kernels"}
    assert names("lenet5") >= {"lenet", "kit", "pooling", "layers"}
    assert not names("lenet5") & {"vgg", "table", "kernels", "small_cnn"}
    for model in MODELS:
        assert module_file(model) in code_files(model, {})


REFUSED = [
    ("lenet5", {"activation": "rleu"}, "architecture.activation is 'rleu'; did you mean 'relu'"),
    ("lenet5", {"pooling": "spatial_pyramid"}, "set last_pooling: spatial_pyramid"),
    ("lenet5", {"pooling": "stochastic"}, "must not be negative, and activation is 'scaled_tanh'"),
    ("lenet5", {"connections": "published", "convolution": "grouped"}, "a plain convolution"),
    ("lenet5", {"output": "softmax"}, "architecture.output is 'softmax'; there are: linear, rbf"),
    ("nielsen", {"convolution": "transposed"}, "makes maps larger and is for decoders"),
    ("nielsen", {"maps": []}, "nothing to pool"),
    ("nielsen", {"maps": [8] * 4}, r"28 → 24 → 12 → 8 → 4 px, too few for a convolution of 5×5"),
    ("nielsen", {"maps": [8] * 10}, r"needs images of more than 2048 px, not 28"),
    ("nielsen", {"dense": 100}, r"architecture.dense is 100, expected a list such as \[300, 100\]"),
    ("nielsen", {"dense": [0]}, r"architecture.dense\[0\] is 0, expected a whole number from 1"),
    ("nielsen", {"dropout": 1.0}, "architecture.dropout is 1.0, expected a number from 0 to below"),
    (
        "mlp",
        {"pooling": "max"},
        "architecture.pooling is not an argument of 'mlp'.*allowed: hidden",
    ),
    ("mlp", {"normalisation": "batchnorm"}, "did you mean 'batch'"),
    ("vgg11", {"batch_norm": "yes"}, "architecture.batch_norm is 'yes', expected true or false"),
    ("alexnet", {"stem": "imagenet"}, r"needs images of at least 63 px, not 28.*28 → 6 → 2 → 2 px"),
    ("inception_v3", {"stem": "imagenet"}, "needs images of at least 75 px, not 28"),
    ("resnet18_small", {"stem": "smal"}, "did you mean 'small'"),
    ("capsnet", {"decoder": "convolutional"}, "there are: dense, transposed"),
    ("mlp", {"spatial_transformer": 1}, "spatial_transformer is 1, expected true or false"),
    ("mlp", {"fixed_kernels": "sobel"}, "expected a list of identity, sobel, gauss, sharpen"),
    ("mlp", {"fixed_kernels": ["sobl"]}, "did you mean 'sobel'"),
    ("mlp", {"low_pass": 0.9}, "low_pass is 0.9, expected a number from 0 to below"),
    ("mlp", {"low_pass": 0.1, "high_pass": 0.2}, "leave no frequency"),
]


@pytest.mark.parametrize(("model", "architecture", "message"), REFUSED)
def test_what_cannot_be_is_refused_before_any_data_is_read(model, architecture, message):
    with pytest.raises(ConfigurationError, match=message) as error:
        check_architecture(model, image_size=28, architecture=architecture, where="variants.x")
    assert str(error.value).startswith("params.yaml: variants.x: ")
    assert "\n" not in str(error.value)


def test_capsules_for_one_class_are_refused(make):
    with pytest.raises(ConfigurationError, match="there is 1; it needs two classes"):
        make("capsnet", num_classes=1)


def test_a_check_draws_no_random_number():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    check_architecture("vgg11", image_size=28, architecture={}, where="variants.x")
    assert torch.equal(torch.rand(3), expected)


def test_small_cnn_has_the_weights_that_recorded_models_have(make):
    shapes = {name: tuple(t.shape) for name, t in make("small_cnn").state_dict().items()}
    digest = hashlib.sha256(json.dumps(shapes, sort_keys=True).encode()).hexdigest()
    assert digest == "27e0296491b642ce656e81a9d330b6b8364c446911f10b41e053ceba4d7531e3"
    assert make("small_cnn").num_parameters == 490_531
