"""From the challenger to the champion, and back."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from pipeline.artifacts import read_json, write_json
from pipeline.errors import Busy, PipelineError
from pipeline.release import register as registering
from pipeline.release.champion import CHALLENGER, CHAMPION, version_called, versions
from pipeline.release.predict import predict
from pipeline.release.register import Registration, register, rollback
from pipeline.tracking import StoreAway, open_store
from tests.mlflow_store import ServedProject


def champion_of(project):
    version = version_called(open_store(project.workspace), "shapes", CHAMPION)
    return version and int(version.version)


def register_in(project) -> Registration:
    return register(project.workspace, project.params)


def test_a_first_model_becomes_champion_and_a_second_time_nothing_happens(project):
    first = register_in(project)
    assert (first.version, first.alias, first.champion) == ("1", "champion", "1")
    assert first.verdict.reasons == ("there was no champion yet",)
    written = read_json(project.workspace.state / "registration.json")
    assert written["verdict"]["passed"] is True
    store = open_store(project.workspace)
    before = version_called(store, "shapes", CHAMPION)
    assert before.run_id == first.run_id
    assert before.tags["weights_sha256"] == project.weights("good")
    assert "no champion yet" in before.tags["gate"]

    again = register_in(project)
    assert again.verdict.reasons == ("it is the champion already",)
    assert len(versions(store, "shapes")) == 1
    assert version_called(store, "shapes", CHAMPION).tags == before.tags
    assert len(store.client.search_logged_models([store.experiment_id])) == 1


def test_a_better_challenger_takes_over_and_a_rollback_undoes_it_for_good(choose):
    weak = choose("weak")
    register_in(weak)
    both = choose("weak", "good")
    better = register_in(both)
    assert (better.version, better.alias) == ("2", "champion")
    assert better.verdict.numbers["val_gain"] > 0.2
    assert champion_of(both) == 2
    store = open_store(both.workspace)
    files = {f.path for f in store.client.list_artifacts(better.run_id)}
    assert files >= {"gate.json", "gate.html"}

    assert rollback(both.workspace, both.params.register_) == "1"
    assert champion_of(both) == 1
    with pytest.raises(PipelineError, match="version 1 is the champion, and there is none before"):
        rollback(both.workspace, both.params.register_)
    assert champion_of(both) == 1

    refused = register_in(both)
    assert not refused.verdict.passed
    assert "rollback" in refused.verdict.as_text()
    assert champion_of(both) == 1

    # On MLflow's page somebody decides otherwise.
    store.client.set_registered_model_alias("shapes", CHAMPION, "2")
    assert register_in(both).alias == "champion"
    assert "taken_back" not in version_called(store, "shapes", CHAMPION).tags


def test_a_worse_challenger_is_registered_but_not_champion(choose):
    register_in(choose("good"))
    weak = choose("weak")
    result = register_in(weak)
    assert (result.version, result.alias, result.champion) == ("2", "challenger", "1")
    store = open_store(weak.workspace)
    challenger = version_called(store, "shapes", CHALLENGER)
    assert str(challenger.version) == result.version
    assert challenger.tags["gate"].startswith("not passed")
    assert champion_of(weak) == 1
    assert len(versions(store, "shapes")) == 2
    register_in(weak)
    assert len(versions(store, "shapes")) == 2


def test_other_classes_are_refused_and_nothing_is_registered(choose, monkeypatch):
    project = choose("good")
    register_in(project)
    load = registering.judge.__globals__["load_version"]

    def other_classes(*arguments):
        model = load(*arguments)
        return replace(model, card=replace(model.card, classes=("cat", "dog")))

    monkeypatch.setitem(registering.judge.__globals__, "load_version", other_classes)
    weak = choose("weak")
    with pytest.raises(PipelineError, match="cat, dog"):
        register_in(weak)
    assert len(versions(open_store(weak.workspace), "shapes")) == 1


def test_a_champion_that_changes_meanwhile_is_not_overwritten(choose, monkeypatch):
    register_in(choose("weak"))
    project = choose("good")
    create = registering._create_version
    store = open_store(project.workspace)

    def meanwhile(*arguments):
        version = create(*arguments)
        store.client.delete_registered_model_alias("shapes", CHAMPION)
        return version

    monkeypatch.setattr(registering, "_create_version", meanwhile)
    with pytest.raises(Busy, match="register"):
        register_in(project)
    assert champion_of(project) is None


def test_a_selection_of_other_weights_is_refused(project):
    selection = read_json(project.workspace.selection)
    write_json(project.workspace.selection, selection | {"weights_sha256": "0" * 64})
    with pytest.raises(PipelineError, match="dvc repro"):
        register_in(project)


def test_a_champion_whose_files_are_gone_is_named(choose):
    register_in(choose("good"))
    weak = choose("weak")
    for folder in (weak.workspace.mlflow / "artifacts" / "models").iterdir():
        shutil.rmtree(folder)
    with pytest.raises(PipelineError, match="shapes, version 1: its files are not at"):
        register_in(weak)


def test_rollback_without_any_champion_says_how_to_get_one(project):
    with pytest.raises(PipelineError, match="make run"):
        rollback(project.workspace, project.params.register_)


def test_a_registration_that_was_cut_short_goes_on_with_the_model_it_had_logged(
    project, monkeypatch
):
    store = open_store(project.workspace)
    create = type(store.client).create_model_version

    def cut_short(*arguments, **settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(type(store.client), "create_model_version", cut_short)
    with pytest.raises(KeyboardInterrupt):
        register_in(project)
    assert champion_of(project) is None
    monkeypatch.setattr(type(store.client), "create_model_version", create)
    assert register_in(project).alias == "champion"
    assert len(store.client.search_logged_models([store.experiment_id])) == 1


@pytest.mark.slow
def test_a_server_elsewhere_holds_runs_models_and_champion(
    choose, tmp_path, params_text, monkeypatch
):
    served = ServedProject.make(tmp_path / "elsewhere", params_text)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", served.address)
    with served.served():
        first = register_in(choose("weak"))
        assert first.alias == "champion"
        both = choose("weak", "good")
        better = register_in(both)  # the champion is fetched to be compared
        assert (better.version, better.alias) == ("2", "champion")
        output = tmp_path / "labels.csv"
        predict(both.workspace, both.params.register_, [both.workspace.data], output)
        assert len(output.read_text().splitlines()) == 161
        assert rollback(both.workspace, both.params.register_) == "1"
    assert not (both.workspace.mlflow / "artifacts").exists()
    with pytest.raises(StoreAway, match="start its server"):
        rollback(both.workspace, both.params.register_)
