"""Pretraining without labels: by the engine of all trainings, and for weights that a classifier
starts from."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pipeline.data.pack import Packed
from pipeline.errors import ConfigurationError
from pipeline.journal import read
from pipeline.params import Params
from pipeline.training.distributed import ALONE
from pipeline.training.environment import reproducible
from pipeline.training.fit import fit
from pipeline.training.loop import Trainer
from pipeline.training.pretraining.pretrain import METHODS, FirstWeights, first_weights
from pipeline.training.task import Task, build_network
from pipeline.training.train import train
from pipeline.vision.augmentation import build_policy
from pipeline.vision.card import ModelCard
from pipeline.vision.inference import predict_logits
from pipeline.vision.models.pretrained import Pretrained
from pipeline.workspace import Workspace
from tests.training import digits
from tests.training.ending import ended_after

EPOCHS = 3
AUTOENCODER = {"epochs": EPOCHS, "batch_size": 16, "lr": 0.01, "masking": 0.2}
RBM = {
    "visible": "bernoulli",
    "gibbs_steps": 1,
    "epochs": EPOCHS,
    "batch_size": 16,
    "lr": 0.05,
    "momentum": 0.5,
    "weight_decay": 0.0002,
}
SIGMOID = {"hidden": [12, 8], "activation": "sigmoid", "initialisation": "xavier"}
VARIANTS: dict[str, dict[str, Any]] = {
    "autoencoder": {
        "model": "nielsen",
        "architecture": {"maps": [4], "dense": [16]},
        "pretraining": {"autoencoder": AUTOENCODER},
    },
    "rbm": {"model": "mlp", "architecture": SIGMOID, "pretraining": {"rbm": RBM}},
}
"""By method, the settings of a variant that is pretrained by it."""


@pytest.fixture(autouse=True)
def mirrored(monkeypatch) -> list[dict[str, Any]]:
    """What trainings told the mirror, in place of MLflow; and each epoch is saved."""
    told: list[dict[str, Any]] = []

    @contextlib.contextmanager
    def mirror(*_: object, **what: Any) -> Iterator[Any]:
        told.append(what)
        yield mirror

    mirror.finish = lambda _: None
    monkeypatch.setattr("pipeline.tracking.mirror", mirror)
    monkeypatch.setattr("pipeline.training.fit.SAVE_EVERY", 0.0)
    return told


@pytest.fixture
def start(workspace: Workspace, write_params: Callable[..., Params]) -> Callable[..., Task]:
    """The training of a variant with these settings, without its first weights."""

    def make(**settings: Any) -> Task:
        variant = write_params(**settings).variant("tiny")
        policy = build_policy("light", where="augment.policy")
        return Task("tiny", variant, policy, Packed.load(workspace.packed), torch.device("cpu"))

    return make


def learn(workspace: Workspace, task: Task) -> FirstWeights:
    return first_weights(workspace, task, "light", ranks=ALONE)


def test_every_method_is_tried():
    assert set(METHODS) == set(VARIANTS)


@pytest.mark.parametrize("method", METHODS)
def test_the_weights_reach_the_classifier_and_its_folder(
    workspace, write_params, mirrored, method, monkeypatch
):
    handed = list[Pretrained]()
    copy_to = Pretrained.copy_to

    def copy(self, classifier, *, where):
        copy_to(self, classifier, where=where)
        state = classifier.net.state_dict()
        assert all(torch.equal(state[name], tensor) for name, tensor in self.weights.items())
        handed.append(self)

    monkeypatch.setattr(Pretrained, "copy_to", copy)
    train(workspace, write_params(epochs=1, **VARIANTS[method]), "tiny")
    folder = workspace.model("tiny")
    kept = load_file(folder / "pretraining" / "weights.safetensors")
    (weights,) = handed
    assert set(kept) == set(weights.weights)
    assert all(torch.equal(kept[name], tensor) for name, tensor in weights.weights.items())
    assert ModelCard.read(folder).pretrained == weights.digest

    with (folder / "pretraining" / "history.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    phases = list(dict.fromkeys(row["phase"] for row in rows))
    assert phases == {"autoencoder": [method], "rbm": ["RBM 1 of 2", "RBM 2 of 2"]}[method]
    assert "val_accuracy" not in rows[0]
    assert ("free_energy_gap" in rows[0]) == (method == "rbm")
    *before, own = mirrored
    assert [told["run_name"] for told in before] == [f"tiny, {phase}" for phase in phases]
    assert own["run_name"] == "tiny"
    journal = read(workspace.checkpoints / before[0]["training_key"] / "journal.jsonl")
    assert [entry.step for entry in journal] == list(range(1, EPOCHS + 1))
    assert {"train_loss", "val_loss", "lr"} <= set(journal[0].metrics)
    assert ("free_energy_gap" in journal[0].metrics) == (method == "rbm")


@pytest.mark.parametrize("method", METHODS)
def test_errors_fall_and_no_label_is_looked_at(workspace, start, method):
    task = start(**VARIANTS[method])
    learned = learn(workspace, task)
    rows = list(csv.DictReader(learned.files["pretraining/history.csv"].decode().splitlines()))
    first = [float(row["val_loss"]) for row in rows[:EPOCHS]]
    assert first[-1] < first[0]
    flipped = task.packed.index.assign(target=1 - task.packed.index["target"], weight=0.5)
    other = dataclasses.replace(
        task, packed=dataclasses.replace(task.packed, index=flipped, digest="other labels")
    )
    again = learn(workspace, other)
    assert again.weights
    assert learned.weights
    assert again.weights.digest == learned.weights.digest


@pytest.mark.parametrize(
    ("method", "saves"),
    [("autoencoder", 1), ("autoencoder", EPOCHS), ("rbm", 2), ("rbm", EPOCHS + 1)],
)
def test_an_ended_pretraining_goes_on_to_the_same_bits(workspace, start, tmp_path, method, saves):
    task = start(**VARIANTS[method])
    undisturbed = learn(Workspace(tmp_path / "undisturbed"), task)
    with ended_after(saves):
        learn(workspace, task)
    torch.manual_seed(saves)  # whatever the process has drawn before
    assert learn(workspace, task).files == undisturbed.files


def test_what_only_the_classifier_is_trained_with_learns_nothing_anew(
    workspace, start, monkeypatch
):
    settings = VARIANTS["autoencoder"]
    first = learn(workspace, start(**settings))
    monkeypatch.setattr(Trainer, "step", None)  # a step would fail
    task = start(
        **settings, lr=0.5, epochs=7, batch_size=8, freeze=["0.*"], label_smoothing=0.2, ema=None
    )
    again = learn(workspace, dataclasses.replace(task, variant="another"))
    assert again.files == first.files
    masked = {"autoencoder": AUTOENCODER | {"masking": 0.3}}
    with pytest.raises(TypeError):
        learn(workspace, start(**settings | {"pretraining": masked}))


@pytest.mark.parametrize("visible", ["bernoulli", "gaussian"])
def test_an_unfolded_stack_computes_what_its_machines_did(workspace, start, visible, monkeypatch):
    machines = list[Any]()
    from pipeline.training.pretraining import rbm

    unfold = rbm.unfold
    monkeypatch.setattr(
        rbm, "unfold", lambda *given: (machines.extend(given[0]), unfold(*given))[1]
    )
    task = start(
        **VARIANTS["rbm"] | {"pretraining": {"rbm": RBM | {"visible": visible, "lr": 0.01}}}
    )
    learned = learn(workspace, task)
    classifier = build_network(dataclasses.replace(task, pretrained=learned.weights)).eval()
    pixels = torch.rand(5, 1, 32, 32)
    seen = classifier.normalise(pixels) if visible == "gaussian" else pixels
    expected = machines[1].hidden(machines[0].hidden(seen.flatten(1)))
    torch.testing.assert_close(classifier.net[:-1](classifier.normalise(pixels)), expected)
    second = learned.weights.weights["3.weight"]
    assert torch.equal(second, machines[1].weight)  # to the bit: no normalisation is worked in
    if visible == "gaussian":
        assert torch.equal(learned.weights.weights["1.weight"], machines[0].weight)


def test_a_network_that_cannot_be_an_encoder_is_refused_before_training(workspace, write_params):
    settings = {"model": "capsnet", "pretraining": {"autoencoder": AUTOENCODER}, "architecture": {}}
    with pytest.raises(ConfigurationError, match=r"variants\.tiny\.pretraining\.autoencoder"):
        train(workspace, write_params(**settings), "tiny")
    assert not workspace.checkpoints.exists()


FEW_LABELS: dict[str, dict[str, Any]] = {
    "autoencoder": {
        "model": "nielsen",
        "architecture": {"maps": [8, 16], "dense": [32], "initialisation": "he"},
        "lr": 0.003,
        "pretraining": {
            "autoencoder": {"epochs": 6, "batch_size": 32, "lr": 0.005, "masking": 0.2}
        },
    },
    "rbm": {
        "model": "mlp",
        "architecture": SIGMOID | {"hidden": [50]},
        "lr": 0.01,
        "pretraining": {"rbm": RBM | {"epochs": 15, "batch_size": 20}},
    },
}


@pytest.mark.slow
@pytest.mark.parametrize(("method", "gain"), [("autoencoder", 0.12), ("rbm", 0.03)])
def test_with_few_labels_a_pretrained_network_beats_itself_from_scratch(
    tmp_path, workspace, write_params, method, gain
):
    everything = digits.unlabelled(tmp_path / "unlabelled")
    settings = FEW_LABELS[method] | {"image_size": digits.SIZE, "epochs": 60, "batch_size": 16}
    settings |= {"optimizer": "adamw", "weight_decay": 0.02, "label_smoothing": 0.0}
    policy = build_policy("none", where="augment.policy")
    gains = []
    for seed in range(4):
        variant = write_params(**settings, seed=seed).variant("tiny")
        few = digits.labelled(tmp_path / f"labelled {seed}", seed=seed)
        start = Task("tiny", variant, policy, everything, torch.device("cpu"))
        learned = first_weights(workspace, start, "none", ranks=ALONE)
        scratch, pretrained = (
            accuracy(dataclasses.replace(start, packed=few, pretrained=weights), tmp_path)
            for weights in (None, learned.weights)
        )
        gains.append(pretrained - scratch)
    error = np.std(gains, ddof=1) / len(gains) ** 0.5
    assert min(gains) > 0, gains
    assert np.mean(gains) > max(gain, 3 * error), gains


def accuracy(task: Task, folder: Any) -> float:
    """On the test images, after training."""
    with reproducible(task.device):
        fitted = fit(task, None, plans=folder / "plans")
        rows = task.packed.rows("test")
        logits = predict_logits(
            fitted.network, task.packed.images, image_size=digits.SIZE, rows=rows
        )
    return float((logits.argmax(axis=1) == task.packed.index["target"].to_numpy()[rows]).mean())
