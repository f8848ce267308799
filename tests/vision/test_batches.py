"""Batches: the right pixels and labels, wherever the images lie."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from pipeline.vision import batches
from pipeline.vision.batches import Images, balanced_order, epoch_order, resize
from tests.copies import CopiesToHost


@given(count=st.integers(0, 200), seed=st.integers(0, 2**32), epoch=st.integers(0, 10_000))
def test_every_epoch_is_a_permutation(count, seed, epoch):
    rows = np.arange(count) * 3 + 1
    assert sorted(epoch_order(rows, seed=seed, epoch=epoch)) == list(rows)


def test_the_order_follows_from_seed_and_epoch_alone():
    rows = np.arange(1000)
    order = epoch_order(rows, seed=1, epoch=2)
    np.random.seed(0)  # noqa: NPY002 (the global state is what is tested)
    np.testing.assert_array_equal(epoch_order(rows, seed=1, epoch=2), order)
    assert (epoch_order(rows, seed=2, epoch=1) != order).any()
    assert (epoch_order(rows, seed=1, epoch=3) != order).any()
    assert abs(np.corrcoef(order, rows)[0, 1]) < 0.1


def test_the_order_is_the_same_in_another_process():
    code = (
        "import numpy as np; from pipeline.vision.batches import epoch_order;"
        "print(epoch_order(np.arange(12), seed=3, epoch=4).tolist())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(epoch_order(np.arange(12), seed=3, epoch=4).tolist())


@given(
    targets=st.lists(st.integers(0, 5), min_size=1, max_size=120).map(np.array),
    seed=st.integers(0, 2**32),
    epoch=st.integers(0, 1000),
)
def test_balanced_drawing_has_every_class_equally_often(targets, seed, epoch):
    positions, occurrences = balanced_order(targets, seed=seed, epoch=epoch)
    assert len(positions) == len(occurrences) == len(targets)
    drawn = np.bincount(targets[positions], minlength=6)[np.unique(targets)]
    assert drawn.sum() == len(targets)
    assert drawn.max() - drawn.min() <= 1
    # Every image of a class comes once before one of them comes again, and so on.
    assert len(set(zip(positions.tolist(), occurrences.tolist(), strict=True))) == len(targets)
    times = np.bincount(positions, minlength=len(targets))
    for target in np.unique(targets):
        assert np.ptp(times[targets == target]) <= 1
    for position in set(positions.tolist()):
        assert sorted(occurrences[positions == position]) == list(range(times[position]))


def test_balanced_drawing_follows_from_seed_and_epoch_and_takes_turns():
    targets = np.array([0] * 900 + [1] * 97 + [2] * 3)
    state = np.random.get_state()[1].tolist()  # noqa: NPY002 (the global state is what is tested)
    one = balanced_order(targets, seed=1, epoch=2)
    assert np.random.get_state()[1].tolist() == state  # noqa: NPY002
    for again, before in zip(balanced_order(targets, seed=1, epoch=2), one, strict=True):
        np.testing.assert_array_equal(again, before)
    epochs = [balanced_order(targets, seed=1, epoch=epoch)[0] for epoch in range(30)]
    assert not any((epoch == one[0]).all() for epoch in epochs if epoch is not epochs[2])
    seen = np.unique(np.concatenate(epochs))
    assert len(seen) == len(targets)  # images of the large class take turns over the epochs
    extra = {int(np.bincount(targets[epoch]).argmax()) for epoch in epochs}
    assert extra == {0, 1, 2}
    assert abs(np.corrcoef(targets[one[0]], np.arange(1000))[0, 1]) < 0.1


@pytest.fixture(params=["in memory", "in the file"])
def place(request, monkeypatch):
    if request.param == "in the file":
        monkeypatch.setattr(batches, "_room", lambda _: 0.0)
    return request.param


def test_a_batch_holds_the_asked_images_in_order(packed_colour, place):
    rows = packed_colour.rows("train")
    images = Images(packed_colour, rows, device="cpu", image_size=16)
    assert len(images) == len(rows)
    chosen = torch.tensor([5, 0, 5, 11])
    batch = images.take(chosen)
    assert batch.dtype == torch.float32
    assert batch.shape == (4, 3, 16, 16)
    assert batch.is_contiguous(memory_format=torch.channels_last)
    expected = packed_colour.images[rows[chosen.numpy()]].transpose(0, 3, 1, 2) / 255
    np.testing.assert_allclose(batch.numpy(), expected, atol=1e-7)


def test_targets_weights_and_keys_belong_to_the_images(packed):
    rows = packed.rows("val")
    images = Images(packed, rows, device="cpu", image_size=16)
    index = packed.index.iloc[rows]
    assert images.targets.dtype == torch.int64
    assert images.weights.dtype == torch.float32
    assert images.keys.dtype == torch.int64
    assert images.targets.tolist() == list(index["target"])
    assert images.weights.tolist() == list(index["weight"])
    assert images.keys.tolist() == packed.keys()[rows].tolist()


def test_smaller_images_are_the_same_from_memory_and_from_the_file(packed, monkeypatch):
    rows = packed.rows("train")
    loaded = Images(packed, rows, device="cpu", image_size=9)
    monkeypatch.setattr(batches, "_room", lambda _: 0.0)
    streamed = Images(packed, rows, device="cpu", image_size=9)
    chosen = torch.tensor([3, 1])
    assert loaded.take(chosen).shape == (2, 1, 9, 9)
    assert torch.equal(loaded.take(chosen), streamed.take(chosen))


def test_resizing_averages_instead_of_skipping_pixels():
    stripes = (
        torch.tensor([0, 0, 0, 255], dtype=torch.uint8).repeat(16).expand(1, 64, 64)[..., None]
    )
    small = resize(stripes, 16)
    assert small.dtype == torch.uint8
    assert (small[:, :, 2:-2].int() - 64).abs().max() < 5
    assert resize(stripes, 64) is stripes


@pytest.mark.parametrize(("indices", "awaited"), [("cuda:0", [True]), ("cpu", [])])
def test_images_on_the_host_are_taken_by_indices_that_have_arrived(
    packed, monkeypatch, indices, awaited
):
    monkeypatch.setattr(batches, "_room", lambda place: 1e9 if place.type == "cpu" else 0.0)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    with FakeTensorMode(allow_non_fake_inputs=True):
        images = Images(packed, packed.rows("train"), device="cuda:0", image_size=16)
        with CopiesToHost() as copies:
            batch = images.take(torch.arange(4, device=indices))
    assert batch.device == torch.device("cuda", 0)
    assert copies.awaited == awaited
    assert images.index_device == torch.device("cpu")


@pytest.mark.parametrize("name", ["cuda", "cuda:0"])
def test_images_that_lie_on_the_gpu_stay_there(packed, monkeypatch, name):
    monkeypatch.setattr(batches, "_room", lambda _: 1e9)
    monkeypatch.setattr(
        Images, "_read", lambda self, rows: torch.from_numpy(self._file[rows]).to(self.device)
    )
    with FakeTensorMode(allow_non_fake_inputs=True):  # which cannot pin memory
        images = Images(packed, packed.rows("train"), device=name, image_size=16)
        batch = images.take(torch.arange(4, device=name))
    assert batch.device == torch.device("cuda", 0)
    assert batch.shape == (4, 1, 16, 16)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("room", [{"cuda", "cpu"}, {"cpu"}, set()])
@pytest.mark.parametrize("image_size", [16, 9])
def test_a_gpu_gets_the_same_batches(packed_colour, monkeypatch, room, image_size):
    rows = packed_colour.rows("train")
    expected = Images(packed_colour, rows, device="cpu", image_size=image_size)
    monkeypatch.setattr(batches, "_room", lambda place: 1e9 if place.type in room else 0.0)
    images = Images(packed_colour, rows, device="cuda", image_size=image_size)
    chosen = torch.tensor([5, 0, 7])
    batch = images.take(chosen.cuda())
    assert batch.device.type == "cuda"
    assert batch.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(
        batch.cpu(), expected.take(chosen), rtol=0, atol=1.5 / 255 if image_size == 9 else 0
    )
