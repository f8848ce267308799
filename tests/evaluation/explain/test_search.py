"""The index of embeddings, the nearest of them, and the page of a search."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from pipeline.errors import ConfigurationError, PipelineError
from pipeline.evaluation.explain import nearest as module
from pipeline.evaluation.explain.embedding import deciding_layers, observe
from pipeline.evaluation.explain.index import Index, index
from pipeline.evaluation.explain.nearest import nearest
from pipeline.evaluation.explain.search import search
from pipeline.vision.card import load_classifier
from pipeline.vision.inference import MAX_BYTES
from tests.evaluation.conftest import Project, copy_of
from tests.evaluation.explain.networks import SIDE, Functions, Plain, Reused
from tests.evaluation.explain.networks import trained as trained_network
from tests.evaluation.pages import Page


@pytest.fixture(scope="module")
def indexed(trained: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with the index of the variant ``first``; not to be changed."""
    project = copy_of(trained, tmp_path_factory.mktemp("indexed"))
    index(project.workspace, project.params, "first")
    return project


def unit(rows: int, dimensions: int, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=(rows, dimensions)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


@settings(deadline=None, max_examples=40)
@given(
    rows=st.integers(1, 60),
    queries=st.integers(1, 9),
    count=st.integers(1, 20),
    block=st.integers(1, 25),
    distinct=st.integers(1, 60),
)
def test_blocks_find_what_a_sort_of_all_finds_also_among_equals(
    rows, queries, count, block, distinct
):
    # Small whole numbers: products are exact, whatever the order of their sums.
    rng = np.random.default_rng(rows)
    embeddings = rng.integers(-3, 4, (distinct, 4)).astype(np.float32)[np.arange(rows) % distinct]
    asked = rng.integers(-3, 4, (queries, 4)).astype(np.float32)
    products = asked @ embeddings.T
    expected = np.argsort(-products, axis=1, kind="stable")[:, :count]
    before = module.BLOCK, module.QUERIES
    module.BLOCK, module.QUERIES = block, 4
    try:
        found, cosines = nearest(embeddings, asked, count)
    finally:
        module.BLOCK, module.QUERIES = before
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(cosines, np.take_along_axis(products, expected, 1))


def test_the_nearest_are_those_of_scikit_learn():
    from sklearn.neighbors import NearestNeighbors

    embeddings, queries = unit(500, 16), unit(20, 16, seed=1)
    reference = NearestNeighbors(n_neighbors=7, metric="cosine").fit(embeddings)
    distances, rows = reference.kneighbors(queries)
    found, cosines = nearest(embeddings, queries, 7)
    np.testing.assert_array_equal(found, rows)
    np.testing.assert_allclose(cosines, 1 - distances, atol=1e-5)


def test_an_embedding_is_what_the_last_linear_layer_reads(indexed):
    packed = indexed.packed
    classifier, card = load_classifier(indexed.workspace.model("first"))
    rows = np.array([5, 0, 63])
    observed = observe(
        classifier, card, packed, rows, device=torch.device("cpu"), layer="net.stages"
    )
    with torch.no_grad():
        images = torch.from_numpy(packed.images[rows]).permute(0, 3, 1, 2) / 255
        maps = classifier.net.stages(classifier.net.stem(classifier.normalise(images)))
        expected = nn.functional.normalize(maps.mean(dim=(2, 3)), dim=1)
    np.testing.assert_allclose(observed.embeddings, expected.numpy(), atol=1e-5)
    np.testing.assert_allclose(observed.peaks, maps.amax(dim=(2, 3)).numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [Plain, Reused, Functions])
def test_the_deciding_layer_is_the_last_that_runs(kind):
    network = trained_network(kind)
    assert deciding_layers(network, torch.rand(1, 2, SIDE, SIDE)) == [network.head]


def test_the_index_holds_all_images_in_their_order_and_the_same_bytes_again(indexed, tmp_path):
    workspace, packed = indexed.workspace, indexed.packed
    found = Index.load(workspace, "first", packed)
    for embeddings in (found.pixels, found.edges):
        assert embeddings.shape == (len(packed.index), 128)
        np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)
    assert not np.allclose(found.pixels, found.edges)
    again = copy_of(indexed, tmp_path)
    index(again.workspace, again.params, "first")
    for path in sorted(workspace.index("first").iterdir()):
        assert path.read_bytes() == (again.workspace.index("first") / path.name).read_bytes()


@pytest.mark.parametrize("edges", [False, True])
def test_an_image_of_the_data_finds_itself_first(indexed, tmp_path, edges):
    row = 11
    name = indexed.packed.index["file_name"].iloc[row]
    page = tmp_path / "found.html"
    matches = search(
        indexed.workspace,
        indexed.params,
        indexed.workspace.data / name,
        page,
        count=5,
        edges=edges,
        variant="first",
    )
    assert matches[0].file_name == name
    assert matches[0].cosine == pytest.approx(1, abs=1e-3)
    assert [match.cosine for match in matches] == sorted(
        (match.cosine for match in matches), reverse=True
    )
    shown = Page(page.read_text(encoding="utf-8"))
    assert len(shown.images) == 1 + 5
    assert all(image["alt"] for image in shown.images)
    assert all((image["src"] or "").startswith("data:image/png") for image in shown.images)


def test_edges_do_not_see_how_light_an_image_is(indexed, tmp_path):
    row = 4
    name = indexed.packed.index["file_name"].iloc[row]
    with Image.open(indexed.workspace.data / name) as image:
        darker = image.point(lambda value: value * 0.5 + 20)
    darker.save(tmp_path / "darker.png")

    def cosine(edges: bool) -> float:
        matches = search(
            indexed.workspace,
            indexed.params,
            tmp_path / "darker.png",
            tmp_path / "page.html",
            count=64,
            edges=edges,
            variant="first",
        )
        return next(match.cosine for match in matches if match.file_name == name)

    assert cosine(edges=True) > cosine(edges=False)


def test_without_a_variant_the_challenger_searches(indexed, tmp_path, caplog):
    project = copy_of(indexed, tmp_path)
    index(project.workspace, project.params, "second")
    image = project.workspace.data / project.packed.index["file_name"].iloc[0]
    page = tmp_path / "page.html"
    search(project.workspace, project.params, image, page)
    assert "embedding of first" in page.read_text(encoding="utf-8")
    project.workspace.selection.write_text(json.dumps({"challenger": "second"}))
    search(project.workspace, project.params, image, page)
    assert "embedding of second" in page.read_text(encoding="utf-8")


def test_what_cannot_be_searched_is_named(indexed, tmp_path):
    workspace, params = indexed.workspace, indexed.params
    image = workspace.data / indexed.packed.index["file_name"].iloc[0]
    page = tmp_path / "page.html"
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    endless, pipe, huge, wide = (tmp_path / f"{n}.png" for n in ("endless", "pipe", "huge", "wide"))
    endless.symlink_to(endless)
    os.mkfifo(pipe)
    with huge.open("wb") as file:
        file.truncate(MAX_BYTES + 1)  # takes no room on most disks
    Image.new("1", (20_000, 20_000)).save(wide)
    for error, message, arguments in (
        (ConfigurationError, "does not exist", (tmp_path / "none.png", page)),
        (ConfigurationError, "is a folder", (tmp_path, page)),
        (ConfigurationError, r"with \.html", (image, tmp_path / "page.png")),
        (ConfigurationError, r"endless\.png: cannot be read", (endless, page)),
        (ConfigurationError, r"pipe\.png: is no file", (pipe, page)),
        (PipelineError, r"huge\.png: no usable image: 500,000,001 bytes", (huge, page)),
        (PipelineError, r"wide\.png: no usable image: claims", (wide, page)),
        (PipelineError, r"broken\.png: no usable image", (broken, page)),
    ):
        with pytest.raises(error, match=message):
            search(workspace, params, *arguments, variant="first")
    with pytest.raises(PipelineError, match="missing; run 'dvc repro'"):
        search(workspace, params, image, page, variant="second")
    with pytest.raises(ConfigurationError, match="did you mean 'first'"):
        search(workspace, params, image, page, variant="frist")
    assert not page.exists()


def test_an_index_of_another_model_is_refused(indexed):
    other = replace(indexed.packed, digest="0" * 64)
    with pytest.raises(PipelineError, match="dvc repro index@first"):
        Index.load(indexed.workspace, "first", other)
