"""``python -m pipeline register`` and ``rollback``: who is champion.

Every challenger becomes a version of the registered model and carries the gate's verdict. Two
aliases point at versions: ``challenger`` at the one judged last, ``champion`` at the one in use.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from pipeline.artifacts import read_json, require, sha256_file, write_json
from pipeline.console import logger
from pipeline.data.pack import Packed
from pipeline.errors import Busy, PipelineError
from pipeline.params import Params, RegisterParams
from pipeline.release.champion import CHALLENGER, CHAMPION, version_called, versions
from pipeline.release.gate import Verdict
from pipeline.release.judge import Challenger, Judgement, judge
from pipeline.release.package import CALIBRATION, log_model
from pipeline.release.sync import sync
from pipeline.tracking import WEIGHTS, Store, open_store
from pipeline.tracking.store import answering, as_default
from pipeline.vision import card as files
from pipeline.vision.temperature import Calibration
from pipeline.workspace import Workspace

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

VERDICT = "gate"
"""Tag of a version: the gate's verdict as text."""
PREVIOUS = "previous_champion"
"""Tag of a version that became champion: the version that was it before."""
REGISTERED = "mlflow.modelVersions"
"""Tag by which MLflow's page links a model to its versions."""
TAKEN_BACK = "taken_back"
"""Tag of a version that a rollback took the alias from."""


@dataclass(frozen=True)
class Registration:
    """What came of registering the challenger."""

    model: str
    version: str
    alias: str
    """``champion``, or ``challenger`` where the gate left the champion in its place."""
    champion: str | None
    """The version that is champion now."""
    variant: str
    run_id: str
    verdict: Verdict


def register(workspace: Workspace, params: Params) -> Registration:
    """Register the challenger of ``selection.json``; make it champion if the gate lets it pass.

    The caller holds the workspace's lock. Repeating it changes nothing. The result is also written
    to ``.pipeline/registration.json``.

    Raises:
        PipelineError: there is nothing to register, outputs do not belong together, or the
            champion knows other classes.
        StoreAway: the store does not answer.
        Busy: somebody else changed the champion meanwhile.
    """
    selection = read_json(workspace.selection)
    variant, weights = selection["challenger"], selection["weights_sha256"]
    path = require(workspace.model(variant) / files.WEIGHTS)
    if sha256_file(path) != weights:
        raise PipelineError(f"{workspace.selection}: not made from {path}; run 'dvc repro' first")
    packed = Packed.load(workspace.packed)
    links = {link.variant: link for link in sync(workspace, params)}
    if variant not in links:
        raise PipelineError(
            f"{workspace.selection}: params.yaml has no variant '{variant}' any more; run"
            " 'dvc repro' first"
        )
    challenger = Challenger(variant, weights, links[variant].run_id, packed)
    store = open_store(workspace)
    with answering(store.uri):
        registration = _register(workspace, params, store, challenger)
    write_json(workspace.state / "registration.json", asdict(registration))
    _log(registration)
    return registration


def rollback(workspace: Workspace, params: RegisterParams) -> str:
    """Give the alias ``champion`` back to the version that had it before, which is returned.

    The caller holds the workspace's lock. A second rollback goes one version further back. What was
    taken back does not pass the gate again.

    Raises:
        PipelineError: there is no champion, or there was none before it.
        StoreAway: the store does not answer.
    """
    store, model = open_store(workspace), params.model
    with answering(store.uri):
        champion = version_called(store, model, CHAMPION)
        if champion is None:
            raise PipelineError(f"{model} has no champion yet: 'make run' trains and registers one")
        earlier = _earlier_champion(champion, versions(store, model))
        if earlier is None:
            raise PipelineError(
                f"{model}: version {champion.version} is the champion, and there is none before it"
                " to go back to"
            )
        # The tag first: a rollback that is cut short here is completed by the next one.
        store.client.set_model_version_tag(model, champion.version, TAKEN_BACK, "true")
        store.client.set_registered_model_alias(model, CHAMPION, earlier.version)
    logger.info(
        "version %s of %s is the champion again, instead of version %s",
        earlier.version,
        model,
        champion.version,
    )
    return str(earlier.version)


def _earlier_champion(champion: ModelVersion, known: list[ModelVersion]) -> ModelVersion | None:
    """Along the chain of champions the next that still exists and was not taken back itself."""
    by_number = {str(version.version): version for version in known}
    seen = {str(champion.version)}
    number = champion.tags.get(PREVIOUS)
    while number in by_number and number not in seen:
        version = by_number[number]
        if TAKEN_BACK not in version.tags:
            return version
        seen.add(number)
        number = version.tags.get(PREVIOUS)
    return None


def _register(
    workspace: Workspace, params: Params, store: Store, challenger: Challenger
) -> Registration:
    model = params.register_.model
    champion = version_called(store, model, CHAMPION)
    if champion is not None and TAKEN_BACK in champion.tags:
        # Somebody has made it champion again by hand.
        store.client.delete_model_version_tag(model, champion.version, TAKEN_BACK)
    version = next(
        (v for v in versions(store, model) if v.tags.get(WEIGHTS) == challenger.weights_sha256),
        None,
    )
    is_champion = (
        champion is not None and version is not None and (champion.version == version.version)
    )
    if version is not None and TAKEN_BACK in version.tags and not is_champion:
        reason = (
            f"a rollback took version {version.version} back; to use it all the same, give it the"
            " alias 'champion' on MLflow's page"
        )
        judgement = Judgement(Verdict(False, (reason,), {}), None)
    else:
        judgement = judge(workspace, params, store, challenger, champion)
    verdict = judgement.verdict
    if version is None:
        version = _create_version(workspace, store, model, challenger)
    if not is_champion:
        _settle(store, challenger.run_id, version, champion, judgement)
    new = version if verdict.passed else champion
    return Registration(
        model=model,
        version=str(version.version),
        alias=CHAMPION if verdict.passed else CHALLENGER,
        champion=None if new is None else str(new.version),
        variant=challenger.variant,
        run_id=challenger.run_id,
        verdict=verdict,
    )


def _create_version(
    workspace: Workspace, store: Store, model: str, challenger: Challenger
) -> ModelVersion:
    from mlflow.exceptions import MlflowException

    try:
        store.client.create_registered_model(model)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    folder = workspace.model(challenger.variant)
    calibration = Calibration.read(workspace.evaluation(challenger.variant) / CALIBRATION)
    model_id = log_model(store, challenger.run_id, folder, challenger.packed, calibration)
    with as_default(store):
        version = store.client.create_model_version(
            model,
            source=f"models:/{model_id}",
            run_id=challenger.run_id,
            model_id=model_id,
            tags={
                WEIGHTS: challenger.weights_sha256,
                "variant": challenger.variant,
                "data_digest": challenger.packed.digest,
            },
        )
    registered = [{"name": model, "version": version.version}]
    store.client.set_logged_model_tags(model_id, {REGISTERED: json.dumps(registered)})
    return version


def _settle(
    store: Store,
    run_id: str,
    version: ModelVersion,
    champion: ModelVersion | None,
    judgement: Judgement,
) -> None:
    """Write the verdict down and set the aliases.

    MLflow sets an alias whatever it was before, so the champion is looked at once more. Within a
    workspace its lock makes that exact; between two that share a server it is nearly so.
    """
    model, client, verdict = version.name, store.client, judgement.verdict
    now = version_called(store, model, CHAMPION)
    if (now and now.version) != (champion and champion.version):
        raise Busy(
            f"{model}: the champion changed while the challenger was judged; run"
            " 'python -m pipeline register' again"
        )
    client.set_model_version_tag(model, version.version, VERDICT, verdict.as_text())
    client.log_dict(run_id, asdict(verdict), "gate.json")
    if judgement.page is not None:
        client.log_text(run_id, judgement.page, "gate.html")
    client.set_registered_model_alias(model, CHALLENGER, version.version)
    if verdict.passed:
        if champion is not None:
            client.set_model_version_tag(model, version.version, PREVIOUS, champion.version)
        client.set_registered_model_alias(model, CHAMPION, version.version)


def _log(registration: Registration) -> None:
    stays = (
        ""
        if registration.alias == CHAMPION
        else (f"; version {registration.champion} stays champion")
    )
    logger.info(
        "version %s of %s (%s) is %s; gate %s%s",
        registration.version,
        registration.model,
        registration.variant,
        registration.alias,
        registration.verdict.as_text(),
        stays,
    )
