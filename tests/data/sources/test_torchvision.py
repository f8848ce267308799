"""Data sets of torchvision: read from the cache, and never unpickled on trust."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.data.sources import read_source
from pipeline.data.sources.torchvision_dataset import _KNOWN, check_pinned
from pipeline.errors import DataRefused, PipelineError
from tests.data.sources.made import fake_cifar10, write_idx
from tests.ingesting import asked, images

ADDRESS = "torchvision:CIFAR10"


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("urllib.request.urlopen", refuse)


def test_arrays_become_images_without_loss(tmp_path, monkeypatch):
    pixels = fake_cifar10(tmp_path / "cache" / "torchvision" / "CIFAR10", monkeypatch)
    listing = read_source(asked(ADDRESS, work=tmp_path))
    assert listing.columns == {
        "file_name": ["train/0.png", "test/0.png"],
        "label": ["apple", "pear"],
        "split": ["train", "test"],
    }
    for name, expected in zip(listing.columns["file_name"], pixels, strict=True):
        with Image.open(listing.folder / name) as image:
            assert np.array_equal(np.asarray(image), expected)


class _Trap:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("import sys; sys.modules['trapped'] = sys",))


@pytest.mark.parametrize("name", ["data_batch_1", "test_batch", "batches.meta"])
def test_a_file_of_another_hash_is_not_unpickled(tmp_path, monkeypatch, no_network, name):
    root = tmp_path / "cache" / "torchvision" / "CIFAR10"
    fake_cifar10(root, monkeypatch)
    (root / "cifar-10-batches-py" / name).write_bytes(pickle.dumps(_Trap()))
    with pytest.raises(PipelineError, match="torchvision:CIFAR10"):
        read_source(asked(ADDRESS, work=tmp_path))
    from torchvision.datasets import CIFAR10

    with pytest.raises(DataRefused, match="has not the hash that torchvision pins"):
        check_pinned(CIFAR10, root, ADDRESS)
    assert "trapped" not in sys.modules


def test_no_network_is_said(tmp_path, no_network):
    with pytest.raises(PipelineError, match="try again where there is a network"):
        read_source(asked(ADDRESS, work=tmp_path))
    assert not (tmp_path / "scratch").exists()


def test_a_download_that_was_cut_short_is_no_data_set(tmp_path, monkeypatch):
    from torchvision.datasets import EuroSAT

    def download(dataset: EuroSAT) -> None:
        folder = Path(dataset.root) / "eurosat" / "2750"
        images(folder, "Forest/1.jpg")
        if len(tries) == 1:
            tries.append("second")
            raise OSError("the connection broke")
        images(folder, "River/2.jpg")

    tries = ["first"]
    monkeypatch.setattr(EuroSAT, "download", download)
    with pytest.raises(PipelineError, match="the connection broke"):
        read_source(asked("torchvision:EuroSAT", work=tmp_path))
    assert list((tmp_path / "cache" / "torchvision").iterdir()) == []
    listing = read_source(asked("torchvision:EuroSAT", work=tmp_path))
    assert listing.columns["label"] == ["Forest", "River"]


def test_files_keep_their_bytes(tmp_path, monkeypatch):
    from torchvision.datasets import EuroSAT

    root = tmp_path / "cache" / "torchvision" / "EuroSAT"
    images(root / "eurosat" / "2750", "Forest/1.jpg", "River/2.jpg")
    monkeypatch.setattr(EuroSAT, "download", lambda _: None)
    listing = read_source(asked("torchvision:EuroSAT", work=tmp_path))
    assert listing.columns["label"] == ["Forest", "River"]
    assert "split" not in listing.columns
    assert listing.folder == root.resolve()
    assert listing.columns["file_name"] == [
        "eurosat/2750/Forest/1.jpg",
        "eurosat/2750/River/2.jpg",
    ]


def test_mnist_is_read_as_torchvision_names_it(tmp_path):
    raw = tmp_path / "cache" / "torchvision" / "MNIST" / "MNIST" / "raw"
    write_idx(raw, "train", count=2, side=28, labels=[3, 1])
    write_idx(raw, "t10k", count=1, side=28, labels=[9])
    listing = read_source(asked("torchvision:MNIST", work=tmp_path))
    assert listing.columns["label"] == ["3 - three", "1 - one", "9 - nine"]
    assert listing.columns["split"] == ["train", "train", "test"]


@pytest.mark.parametrize("name", _KNOWN)
def test_torchvision_has_every_name_and_takes_its_arguments(name):
    import inspect

    from torchvision import datasets

    accepted = inspect.signature(getattr(datasets, name).__init__).parameters
    for options in _KNOWN[name].splits.values():
        assert {"root", *options} <= set(accepted)
