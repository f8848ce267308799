"""Networks that vote: each learns as if alone, and the mean of their probabilities decides."""

from __future__ import annotations

import pytest
import torch

from pipeline.errors import ConfigurationError
from pipeline.evaluation.explain import METHODS, CannotExplain
from pipeline.evaluation.explain.embedding import observe_batches
from pipeline.training.objective import Labels
from pipeline.vision.models import check_architecture, code_files, libraries
from pipeline.vision.models.outputs import loss_of
from tests.vision.trained import make_model

SMALL = {"of": "small_cnn", "members": 3, "arguments": {"width": 4}}
CAPSULES = {"of": "capsnet", "members": 2, "arguments": {"width": 4, "primary_maps": 1}}
HEADS = {"of": "googlenet", "members": 2}

REFUSING = {
    "grad_cam": "another path",
    "guided_backprop": "rectifiers .* alone",
    "deconvnet": "rectifiers .* alone",
}


def batch(classifier, side: int = 28) -> tuple[torch.Tensor, Labels]:
    torch.manual_seed(1)
    targets = torch.arange(6) % classifier.num_classes
    return torch.rand(6, 1, side, side), Labels(targets, torch.ones(6), None, 0.1)


def test_the_probabilities_are_the_members_mean(make):
    classifier = make("ensemble", architecture=SMALL).eval()
    images, _ = batch(classifier)
    with torch.no_grad():
        seen = classifier.normalise(images)
        expected = torch.stack([m(seen).softmax(1) for m in classifier.net.members]).mean(0)
        torch.testing.assert_close(classifier(images).exp(), expected)


def test_members_begin_with_weights_of_their_own(make):
    first, second, _ = make("ensemble", architecture=SMALL).net.members
    assert not torch.equal(first.head.weight, second.head.weight)


@pytest.mark.parametrize("architecture", [SMALL, CAPSULES, HEADS], ids=lambda a: a["of"])
def test_each_member_learns_as_if_it_were_alone(make, architecture):
    """Its gradient is that of its own loss, of capsules and of auxiliary heads too."""
    torch.manual_seed(0)
    classifier = make("ensemble", architecture=architecture)
    classifier.apply(
        lambda module: setattr(module, "p", 0.0) if isinstance(module, torch.nn.Dropout) else None
    )
    images, labels = batch(classifier)
    loss = labels.loss(classifier, classifier(images), images)
    loss.backward()
    together = [p.grad.clone() for p in classifier.parameters()]
    classifier.zero_grad()
    alone = []
    for member in classifier.net.members:
        outputs = member(classifier.normalise(images))
        own = labels.loss(member, outputs, images)
        own.backward()
        alone.append(own.item())
    assert loss.item() == pytest.approx(sum(alone) / len(alone), rel=1e-5)
    for got, parameter in zip(together, classifier.parameters(), strict=True):
        torch.testing.assert_close(got, parameter.grad, rtol=1e-3, atol=1e-5)


def test_a_network_that_gives_logits_alone_has_their_loss(make):
    classifier = make("small_cnn")
    images, labels = batch(classifier)
    logits = classifier(images)
    assert loss_of(classifier.net, (logits,), Supervised(labels)) == labels.cross_entropy(logits)


class Supervised:
    def __init__(self, labels: Labels) -> None:
        self.cross_entropy = labels.cross_entropy


def test_an_embedding_is_that_of_all_members(make):
    classifier = make("ensemble", architecture=SMALL).eval()
    _, card = make_model(image_size=28, stored_size=28)
    images, _ = batch(classifier)
    embeddings = torch.from_numpy(observe_batches(classifier, card, [images]).embeddings)
    first = classifier.net.members[0]
    with torch.no_grad():
        maps = first.stages(first.stem(classifier.normalise(images)))
    width = embeddings.shape[1] // 3
    part = torch.nn.functional.normalize(embeddings[:, :width], dim=1)
    torch.testing.assert_close(
        part, torch.nn.functional.normalize(maps.mean((2, 3)), dim=1), atol=1e-5, rtol=1e-4
    )
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(6))


@pytest.mark.parametrize("method", METHODS)
def test_an_explanation_is_of_all_members_or_refused(make, method):
    """Grad-CAM has no last feature maps that all of the signal passes, and the rules for
    rectifiers say nothing of a mean of probabilities."""
    classifier = make("ensemble", architecture=SMALL).eval()
    images, labels = batch(classifier)
    if method in REFUSING:
        with pytest.raises(CannotExplain, match=REFUSING[method]):
            METHODS[method].explain(classifier, images, labels.targets)
        return
    whole = METHODS[method].explain(classifier, images, labels.targets)
    with torch.no_grad():
        for parameter in classifier.net.members[0].parameters():
            parameter.zero_()
    assert not torch.allclose(METHODS[method].explain(classifier, images, labels.targets), whole)


def test_an_ensembles_code_is_its_members_too():
    files = {file.stem for file in code_files("ensemble", {"of": "lenet5"})}
    assert files >= {"ensemble", "lenet", "kit"}
    assert "small_cnn" not in files
    assert "small_cnn" in {file.stem for file in code_files("ensemble", {})}


def test_members_may_be_a_librarys(make):
    own = {"of": "torchvision:mobilenet_v3_small", "members": 2, "arguments": {"width_mult": 0.5}}
    classifier = make("ensemble", image_size=32, architecture=own)
    assert len(classifier.net.members) == 2
    assert libraries("ensemble", own) == ["torchvision"]
    assert libraries("ensemble", {}) == []


REFUSED = [
    ({"of": "smal_cnn"}, r"variants\.x\.architecture\.of: 'smal_cnn' .*did you mean 'small_cnn'"),
    ({"of": "ensemble"}, "name the network of its members"),
    ({"members": 1}, "architecture.members is 1, expected a whole number from 2"),
    ({"of": "small_cnn", "arguments": {"widht": 8}}, "did you mean 'width'"),
    ({"of": "small_cnn", "arguments": 8}, "arguments is 8, expected the arguments of 'small_cnn'"),
    ({"of": "timm:resnet10t", "arguments": {"pretrained": True}}, "pretrained is not for"),
    ({"of": "alexnet", "arguments": {"stem": "imagenet"}}, "at least 63 px, not 28"),
]


@pytest.mark.parametrize(("architecture", "message"), REFUSED)
def test_a_vote_that_cannot_be_held_is_refused(make, architecture, message):
    with pytest.raises(ConfigurationError, match=message):
        make("ensemble", architecture=architecture)


def test_it_is_refused_before_any_data_is_read():
    with pytest.raises(ConfigurationError, match="at least 16 px"):
        check_architecture("ensemble", image_size=8, architecture={}, where="variants.x")
