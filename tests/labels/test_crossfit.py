"""Predictions by networks that did not learn from what they predict, whatever interrupts them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from pipeline.data.pack import Packed
from pipeline.errors import ConfigurationError, PipelineError
from pipeline.labels.crossfit import Moments, out_of_fold
from pipeline.labels.judge import judge_labels
from pipeline.training.checkpoint import CheckpointFolder
from pipeline.training.loop import Trainer
from tests.labels.conftest import IMAGES


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("channels", [1, 3])
def test_moments_are_those_of_the_chosen_images(planted, channels):
    packed = Packed.load(planted.workspace.packed)
    images = np.random.default_rng(0).integers(0, 256, (50, 24, 24, channels), dtype=np.uint8)
    packed = dataclasses.replace(packed, images=images, channels=channels)
    chosen = np.arange(50) % 3 == 1
    mean, std = Moments.of(packed).mean_and_std(chosen)
    pixels = images[chosen].astype(np.float64) / 255
    assert mean == pytest.approx(pixels.mean(axis=(0, 1, 2)), abs=1e-12)
    assert std == pytest.approx(pixels.std(axis=(0, 1, 2)), abs=1e-12)


def test_what_is_predicted_leaves_no_trace_in_the_network(planted):
    """Neither pixels nor labels of a fold: its last images keep their predictions to the bit."""
    params = planted.params(epochs=2)
    packed = Packed.load(planted.workspace.packed)
    split = np.where(np.arange(IMAGES) < 130, "train", "test").astype("<U5")
    split[110:130] = "val"
    before = out_of_fold(planted.workspace, params, "tiny", packed, [split])

    images = np.array(packed.images)
    images[130:165] = 255 - images[130:165]
    index = packed.index.copy()
    index.loc[130:, "target"] = 1 - index.loc[130:, "target"]
    index.loc[130:, "weight"] = 9.0
    other = dataclasses.replace(packed, images=images, index=index, digest="other")
    after = out_of_fold(planted.workspace, params, "tiny", other, [split])
    assert np.isnan(after[:130]).all()
    assert (after[130:165] != before[130:165]).any()
    assert (after[165:] == before[165:]).all()


class Ended(BaseException):
    """As a kill would, it passes through everything."""


@pytest.mark.parametrize("saves", [2, 7])
def test_an_interrupted_judgement_goes_on_to_the_same_bits(planted, judged, monkeypatch, saves):
    """Ended in the first fold, and in a later one, after a checkpoint."""
    monkeypatch.setattr("pipeline.training.fit.SAVE_EVERY", 0.0)
    save, train = CheckpointFolder.save, Trainer.train_epoch
    done, trained = [], []

    def save_then_end(self, checkpoint, **kwargs):
        save(self, checkpoint, **kwargs)
        done.append(checkpoint.epoch)
        if len(done) == saves:
            raise Ended

    monkeypatch.setattr(CheckpointFolder, "save", save_then_end)
    with pytest.raises(Ended):
        judge_labels(planted.workspace, planted.params())
    assert not planted.folder.exists()
    monkeypatch.setattr(CheckpointFolder, "save", save)

    def train_and_count(self, epoch, **kwargs):
        trained.append(epoch)
        return train(self, epoch, **kwargs)

    monkeypatch.setattr(Trainer, "train_epoch", train_and_count)
    judge_labels(planted.workspace, planted.params())
    assert files(planted.folder) == files(judged.folder)
    assert len(trained) == 3 * 6 - saves


def test_a_repeated_judgement_trains_nothing_and_writes_the_same(judged, monkeypatch):
    before = files(judged.folder)
    monkeypatch.setattr("pipeline.training.loop.Trainer.step", None)  # a step would fail
    judge_labels(judged.workspace, judged.params())
    assert files(judged.folder) == before


def test_the_seed_and_the_epochs_of_the_settings_count(planted, monkeypatch):
    asked = []

    def note(task, folder, **kwargs):
        asked.append((task.settings.epochs, folder.path.name))
        raise Ended

    monkeypatch.setattr("pipeline.labels.crossfit.fit", note)
    for labels in ({}, {"epochs": 2}, {"seed": 1}):
        with pytest.raises(Ended):
            judge_labels(planted.workspace, planted.params(**labels))
    assert [epochs for epochs, _ in asked] == [6, 2, 6]
    assert len({key for _, key in asked}) == 3


def test_a_batch_too_large_for_the_gpu_is_told(planted, monkeypatch):
    def exhausted(self, batch, epoch):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("pipeline.training.loop.Trainer.step", exhausted)
    with pytest.raises(PipelineError, match=r"variants\.tiny, fold 1 of \d: 16 images of"):
        judge_labels(planted.workspace, planted.params())
    assert not planted.folder.exists()


def test_an_unknown_variant_is_refused(planted):
    with pytest.raises(ConfigurationError, match=r"labels\.variant: 'tinny'.*did you mean 'tiny'"):
        judge_labels(planted.workspace, planted.params(variant="tinny"))
    with pytest.raises(ConfigurationError, match=r"no 'othr'.*did you mean 'other'"):
        judge_labels(planted.workspace, planted.params(), "othr")


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_a_gpu_finds_what_the_cpu_finds(planted):
    packed = Packed.load(planted.workspace.packed)
    params = planted.params()
    on_gpu = params.variants["tiny"].model_copy(update={"device": "cuda"})
    params = params.model_copy(update={"variants": params.variants | {"tiny": on_gpu}})
    split = np.where(np.arange(IMAGES) % 4 == 0, "test", "train").astype("<U5")
    split[1::8] = "val"
    probabilities = out_of_fold(planted.workspace, params, "tiny", packed, [split])
    tested = split == "test"
    agreeing = probabilities[tested].argmax(axis=1) == packed.index["target"].to_numpy()[tested]
    assert agreeing.mean() > 0.8
