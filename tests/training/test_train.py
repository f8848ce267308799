"""``train``: from packed images to a model folder, with its messages for what can go wrong."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from pipeline.artifacts import sha256_file
from pipeline.errors import ConfigurationError, PipelineError
from pipeline.training.loop import Trainer
from pipeline.training.train import train
from pipeline.vision.card import load_classifier


class Mirrored(list[dict[str, Any]]):
    """What trainings told the mirror, in place of MLflow."""

    @contextlib.contextmanager
    def mirror(self, _: object, journal: Path, **told: Any) -> Iterator[Mirrored]:
        self.append(told | {"journal": journal})
        yield self

    def finish(self, weights_sha256: str) -> None:
        self[-1]["weights_sha256"] = weights_sha256


@pytest.fixture(autouse=True)
def mirrored(monkeypatch) -> Mirrored:
    mirrored = Mirrored()
    monkeypatch.setattr("pipeline.tracking.mirror", mirrored.mirror)
    return mirrored


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_trained_variant_is_written_whole_and_can_be_loaded(workspace, write_params, mirrored):
    train(workspace, write_params(epochs=6), "tiny")
    folder = workspace.model("tiny")
    assert set(files(folder)) == {"weights.safetensors", "model.json", "history.csv"}

    history = pd.read_csv(folder / "history.csv")
    assert list(history.columns) == [
        *("epoch", "lr", "train_loss", "train_accuracy"),
        *("val_loss", "val_accuracy", "val_balanced_accuracy"),
    ]
    assert history["epoch"].tolist() == [1, 2, 3, 4, 5, 6]
    card = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    assert card["plan"] == {
        "precision": "float32",
        "memory_format": "channels_last",
        "execution": "eager",
        "threads": torch.get_num_threads(),
    }
    classifier, loaded = load_classifier(folder)
    assert loaded.parameters == classifier.num_parameters

    (told,) = mirrored
    assert told["training_key"] == loaded.training_key
    assert told["weights_sha256"] == sha256_file(folder / "weights.safetensors")
    assert told["journal"].parent == workspace.checkpoints / loaded.training_key
    assert told["params"]["lr"] == 0.02
    assert told["tags"] == {"variant": "tiny", "data_digest": loaded.data_digest}


def test_the_kept_weights_are_those_of_the_best_epoch(workspace, write_params):
    train(workspace, write_params(epochs=6), "tiny")
    classifier, _ = load_classifier(workspace.model("tiny"))
    history = pd.read_csv(workspace.model("tiny") / "history.csv")
    from pipeline.data.pack import Packed
    from pipeline.vision.inference import predict_logits

    packed = Packed.load(workspace.packed)
    rows = packed.rows("val")
    logits = predict_logits(classifier, packed.images, image_size=32, rows=rows)
    accuracy = (logits.argmax(axis=1) == packed.index["target"].to_numpy()[rows]).mean()
    assert accuracy == pytest.approx(history["val_balanced_accuracy"].max())


def test_a_repeated_stage_writes_the_same_bytes_at_once(workspace, write_params, monkeypatch):
    params = write_params(epochs=2)
    train(workspace, params, "tiny")
    first = files(workspace.model("tiny"))
    monkeypatch.setattr("pipeline.training.loop.Trainer.step", None)  # a step would fail
    train(workspace, params, "tiny")
    assert files(workspace.model("tiny")) == first


def test_a_changed_setting_never_goes_on_from_another_settings_checkpoint(
    workspace, write_params, mirrored
):
    train(workspace, write_params(epochs=1), "tiny")
    first = files(workspace.model("tiny"))
    train(workspace, write_params(epochs=1, lr=0.01), "tiny")
    assert files(workspace.model("tiny")) != first
    assert len({told["training_key"] for told in mirrored}) == 2
    assert len(list(workspace.checkpoints.iterdir())) == 2
    train(workspace, write_params(epochs=1), "tiny")
    assert files(workspace.model("tiny")) == first
    assert mirrored[0]["training_key"] == mirrored[2]["training_key"]


def test_divergence_writes_no_weights_and_names_images(workspace, write_params, mirrored):
    params = write_params(lr=1e30, momentum=0.0, gradient_clip=None)
    with pytest.raises(PipelineError, match=r"images/\d{4}\.png") as stopped:
        train(workspace, params, "tiny")
    assert stopped.value.exit_code == 1
    assert not workspace.model("tiny").exists()
    assert "weights_sha256" not in mirrored[0]


@pytest.mark.parametrize(
    ("settings", "variant", "message"),
    [
        ({}, "tinny", "variants has no 'tinny'.*did you mean 'tiny'"),
        ({"model": "smal_cnn"}, "tiny", r"variants\.tiny\.model.*did you mean 'small_cnn'"),
        ({"architecture": {"wdth": 8}}, "tiny", r"variants\.tiny.*wdth"),
        ({"device": "cuda:7"}, "tiny", r"train\.device: 'cuda:7' is not there"),
    ],
)
def test_settings_that_cannot_be_used_are_refused_before_training(
    workspace, write_params, settings, variant, message
):
    with pytest.raises(ConfigurationError, match=message):
        train(workspace, write_params(**settings), variant)
    assert not workspace.model("tiny").exists()


def test_missing_packed_images_are_a_message(workspace, write_params):
    params = write_params()
    for path in workspace.packed.iterdir():
        path.unlink()
    with pytest.raises(PipelineError, match=r"packed.*missing"):
        train(workspace, params, "tiny")


@pytest.mark.parametrize(
    ("room", "message"),
    [
        (7, "; 4 do, as a step has shown. Set batch_size: 4 and gradient_accumulation: 4"),
        (1, ", and no 2 do; set a smaller image_size or network"),
    ],
)
def test_a_batch_too_large_for_the_gpu_is_told_with_one_that_fits(
    workspace, write_params, monkeypatch, room, message
):
    step = Trainer.step

    def exhausted(self, batch, epoch):
        if len(batch) > room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return step(self, batch, epoch)

    monkeypatch.setattr(Trainer, "step", exhausted)
    with pytest.raises(PipelineError) as stopped:
        train(workspace, write_params(), "tiny")
    assert str(stopped.value).startswith("variants.tiny: 16 images of 32×32 do not fit")
    assert message in str(stopped.value)
    assert not workspace.model("tiny").exists()


def test_a_batch_that_fits_by_itself_is_not_called_too_large(workspace, write_params, monkeypatch):
    step, times = Trainer.step, iter(range(1000))

    def exhausted_at_first(self, batch, epoch):
        if not next(times):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return step(self, batch, epoch)

    monkeypatch.setattr(Trainer, "step", exhausted_at_first)
    with pytest.raises(PipelineError, match=r"16 images .* a plain step on them alone does\. End"):
        train(workspace, write_params(), "tiny")


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_a_gpu_whose_memory_is_full_names_a_batch_that_fits(workspace, write_params):
    torch.cuda.init()
    share = 400e6 / torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(share)
    settings = {"device": "cuda", "architecture": {"width": 256}, "batch_size": 64}
    try:
        with pytest.raises(PipelineError, match=r"64 images .* do not fit.*; \d+ do") as stopped:
            train(workspace, write_params(**settings), "tiny")
        fits = int(re.search(r"batch_size: (\d+)", str(stopped.value))[1])
        train(workspace, write_params(**settings | {"batch_size": fits, "epochs": 1}), "tiny")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
