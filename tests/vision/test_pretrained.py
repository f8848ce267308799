"""Weights learned elsewhere arrive whole in the network that they are for, or are refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

from pipeline.errors import ConfigurationError, PipelineError
from pipeline.vision.models import Classifier, build
from pipeline.vision.models.layers import head_layers
from pipeline.vision.models.pretrained import Pretrained, adapt_channels, load_pretrained

WHERE = "variants.x"


def make(model: str, *, channels: int = 3, num_classes: int = 2, **architecture: Any) -> Classifier:
    return build(
        model,
        channels=channels,
        num_classes=num_classes,
        image_size=32,
        architecture=architecture,
        mean=[0.5] * channels,
        std=[0.2] * channels,
    )


def load(
    source: str | None, model: str, root: Path, architecture: dict[str, Any] | None = None
) -> Pretrained | None:
    arguments = {"architecture": architecture or {}, "image_size": 32}
    return load_pretrained(source, model, root=root, where=WHERE, **arguments)


def use(source: str, model: str, root: Path, target: Classifier | None) -> None:
    found = load(source, model, root)
    assert found is not None
    assert target is not None
    found.copy_to(target, where=WHERE)


def refused(source: str, model: str, root: Path, target: Classifier | None = None) -> str:
    """The message, which is one line, of loading and, with a ``target``, of using the weights."""
    with pytest.raises(ConfigurationError) as error:
        use(source, model, root, target)
    message = str(error.value)
    assert message.startswith(f"params.yaml: {WHERE}.pretrained: '{source}'")
    assert "\n" not in message
    return message


def equal(one: nn.Module, other: nn.Module, *, but: str = "\0") -> bool:
    theirs = other.state_dict()
    return all(
        name.startswith(but) or torch.equal(tensor, theirs[name])
        for name, tensor in one.state_dict().items()
    )


@pytest.fixture
def served(tmp_path, monkeypatch) -> dict[str, dict[str, torch.Tensor]]:
    """What PyTorch's downloads bring, by the start of the file's name; all else has no network."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    files: dict[str, dict[str, torch.Tensor]] = {}

    def download(url: str, destination: str, *_: object, **__: object) -> None:
        name = url.rsplit("/", 1)[-1]
        for start, weights in files.items():
            if name.startswith(start):
                torch.save(weights, destination)
                return
        raise OSError("<urlopen error [Errno -2] Name or service not known>")

    monkeypatch.setattr("torch.hub.download_url_to_file", download)
    return files


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_file_of_the_same_network_is_taken_over_whole(tmp_path, suffix, wrapped):
    learned, target = make("small_cnn", width=8), make("small_cnn", width=8)
    weights = learned.state_dict() if wrapped else learned.net.state_dict()
    if suffix == ".safetensors":
        safetensors.torch.save_file(weights, tmp_path / "w.safetensors")
    else:
        torch.save({"state_dict": weights, "epoch": 3} if wrapped else weights, tmp_path / "w.pth")
    found = load(f"w{suffix}", "small_cnn", tmp_path)
    assert found is not None
    found.copy_to(target, where=WHERE)
    assert equal(target, learned)
    other = dict(found.weights) | {"head.bias": torch.ones(2)}
    assert Pretrained("", other).digest != found.digest
    absolute = load(str(tmp_path / f"w{suffix}"), "small_cnn", Path("/elsewhere"))
    assert absolute is not None
    assert absolute.digest == found.digest


def test_equal_weights_have_one_digest_whatever_their_file(tmp_path):
    weights = make("small_cnn", width=8).net.state_dict()
    safetensors.torch.save_file(weights, tmp_path / "a.safetensors")
    torch.save(weights, tmp_path / "b.pth")
    found = [load(name, "small_cnn", tmp_path) for name in ("a.safetensors", "b.pth")]
    assert len({weights.digest for weights in found if weights}) == 1


@pytest.mark.parametrize("model", ["torchvision:resnet18", "timm:resnet10t", "small_cnn"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_head_of_other_classes_stays_new_and_the_rest_is_taken(tmp_path, model, channels):
    learned, target = make(model, num_classes=10), make(model, channels=channels)
    torch.save(learned.net.state_dict(), tmp_path / "w.pth")
    (head,) = head_layers(target.net)
    before = target.net.get_parameter(f"{head}.weight").clone()
    found = load("w.pth", model, tmp_path)
    assert found is not None
    found.copy_to(target, where=WHERE)
    assert torch.equal(target.net.get_parameter(f"{head}.weight"), before)
    inputs = []  # of both heads
    grey = torch.rand(2, 1, 32, 32)
    for classifier in (learned.eval(), target.eval()):
        layer = classifier.net.get_submodule(head)
        layer.register_forward_hook(lambda _, arguments, __: inputs.append(arguments[0]))
        classifier(grey.expand(2, classifier.channels, 32, 32))
    torch.testing.assert_close(inputs[0], inputs[1], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("given", "wanted"), [(3, 1), (3, 3), (3, 4), (3, 6), (1, 3), (4, 3)])
def test_a_grey_image_gives_the_same_whatever_the_channels(given, wanted):
    weight, grey = torch.randn(5, given, 3, 3), torch.rand(2, 1, 8, 8)
    adapted = adapt_channels(weight, wanted)
    assert adapted.shape == (5, wanted, 3, 3)
    if wanted % given == 0 or wanted == 1:
        expected = nn.functional.conv2d(grey.expand(2, given, 8, 8), weight)
        found = nn.functional.conv2d(grey.expand(2, wanted, 8, 8), adapted)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("given", [3, 1])
def test_channels_are_adapted_as_by_timm(given):
    from timm.models import adapt_input_conv

    weight = torch.randn(5, 3, 3, 3)
    torch.testing.assert_close(adapt_channels(weight, given), adapt_input_conv(given, weight))
    torch.testing.assert_close(adapt_channels(weight, 5), adapt_input_conv(5, weight))


@pytest.mark.parametrize("name", ["default", "DEFAULT", "IMAGENET1K_V1"])
def test_torchvisions_names_bring_their_weights(tmp_path, served, name):
    learned = make("torchvision:resnet18", num_classes=1000)
    served["resnet18-"] = learned.net.state_dict()
    state = torch.get_rng_state()
    found = load(name, "torchvision:resnet18", tmp_path)
    assert torch.equal(torch.get_rng_state(), state)
    assert found is not None
    target = make("torchvision:resnet18", channels=1)
    found.copy_to(target, where=WHERE)
    assert torch.equal(target.net.layer1[0].conv1.weight, learned.net.layer1[0].conv1.weight)
    summed = learned.net.conv1.weight.sum(dim=1, keepdim=True)
    torch.testing.assert_close(target.net.conv1.weight, summed)


def test_timms_tags_bring_their_weights(tmp_path, monkeypatch):
    """From the hub of timm's weights, in place of which its file stands here."""
    learned = make("timm:regnetx_002", num_classes=1000)
    safetensors.torch.save_file(learned.net.state_dict(), tmp_path / "model.safetensors")
    asked = []

    def hub(*args: str, **kwargs: str) -> str:
        asked.append(str(args or kwargs["repo_id"]))
        return str(tmp_path / "model.safetensors")

    monkeypatch.setattr("timm.models._hub.hf_hub_download", hub)
    for name in ("default", "pycls_in1k"):
        found = load(name, "timm:regnetx_002", tmp_path)
        assert found is not None
        target = make("timm:regnetx_002")
        found.copy_to(target, where=WHERE)
        assert equal(target.net, learned.net, but="head.")
    assert len(asked) == 2
    assert all("regnetx_002.pycls_in1k" in repository for repository in asked)


def test_without_a_connection_the_way_around_is_told(tmp_path, served):
    with pytest.raises(PipelineError, match=r"cannot be loaded: .*not known.* give its path"):
        load("default", "torchvision:resnet18", tmp_path)


def test_a_file_that_runs_code_when_it_is_unpickled_is_refused(tmp_path, served, monkeypatch):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    served["resnet18-"] = {"conv1.weight": Trap()}
    torch.save({"conv1.weight": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(PipelineError, match="cannot be read as weights"):
        load("trap.pth", "small_cnn", tmp_path)
    with pytest.raises(PipelineError, match="cannot be loaded"):
        load("default", "torchvision:resnet18", tmp_path)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("source", "model", "message"),
    [
        ("gone.pth", "small_cnn", "there is no file .*gone.pth"),
        ("default", "small_cnn", "a network of our own.* give a file"),
        ("IMAGENET1K_V2", "torchvision:resnet18", "did you mean 'IMAGENET1K_V1'.*there are"),
        ("pycls_in1", "timm:regnetx_002", "did you mean 'pycls_in1k'"),
        ("default", "timm:resnet10t_", "has no weights"),
    ],
)
def test_names_that_are_none_get_the_nearest_match(tmp_path, source, model, message):
    assert re.search(message, refused(source, model, tmp_path))


@pytest.mark.parametrize("content", [b"", b"no weights", b"\x08\0\0\0\0\0\0\0notjson!"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_damaged_file_is_named(tmp_path, content, suffix):
    (tmp_path / f"w{suffix}").write_bytes(content)
    assert "cannot be read as weights" in refused(f"w{suffix}", "small_cnn", tmp_path)


@pytest.mark.parametrize("content", [{}, [1, 2], {"epoch": 3}, {"state_dict": {}}])
def test_a_file_without_weights_is_named(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    assert "holds no weights by name" in refused("w.pth", "small_cnn", tmp_path)


def test_weights_of_another_network_are_refused_with_what_does_not_fit(tmp_path):
    torch.save(make("small_cnn", width=8).net.state_dict(), tmp_path / "narrow.pth")
    message = refused("narrow.pth", "small_cnn", tmp_path, make("small_cnn", width=16))
    assert "stem.0.weight is (8, 3, 3, 3), expected (16, 3, 3, 3)" in message
    assert "more;" in message
    message = refused("narrow.pth", "x", tmp_path, make("torchvision:resnet18"))
    assert "conv1.weight is missing" in message
    assert "stem.0.weight is unknown" in message


def test_tensors_that_the_network_has_no_use_for_are_told(tmp_path, caplog):
    learned, target = make("small_cnn", width=8), make("small_cnn", width=8)
    weights = learned.net.state_dict() | {"projector.weight": torch.ones(3)}
    del weights["head.weight"], weights["head.bias"]  # as a self-supervised start has them
    torch.save(weights, tmp_path / "w.pth")
    found = load("w.pth", "small_cnn", tmp_path)
    assert found is not None
    with caplog.at_level("INFO", logger="pipeline"):
        found.copy_to(target, where=WHERE)
    assert "new: head.weight, head.bias; not used: projector.weight" in caplog.text
    assert equal(target.net.stages, learned.net.stages)


def test_null_is_nothing(tmp_path):
    assert load(None, "small_cnn", tmp_path) is None
