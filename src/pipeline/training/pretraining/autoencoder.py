"""The method ``autoencoder``: the variant's network learns to draw the images it is shown."""

from __future__ import annotations

from torch import Tensor

from pipeline.params import AutoencoderParams
from pipeline.training.pretraining.unlabelled import Learn, UnlabelledTask, without_labels
from pipeline.training.task import Task, untrained_network
from pipeline.vision.models import Classifier
from pipeline.vision.models.autoencoder import autoencoder


def pretrain(start: Task, own: AutoencoderParams, learn: Learn) -> dict[str, Tensor]:
    """The weights of an encoder, by the names that the network of ``start`` has for them.

    Its head is no part of it. What ``own`` does not set is as in the variant's own training.
    """
    settings = start.settings

    def make() -> Classifier:
        classifier = untrained_network(start)
        return autoencoder(
            classifier, image_size=settings.image_size, masking=own.masking, where=start.where
        )

    network = learn(
        UnlabelledTask(
            f"{start.variant}, autoencoder",
            without_labels(settings, epochs=own.epochs, batch_size=own.batch_size, lr=own.lr),
            start.policy,
            start.packed,
            start.device,
            phase="autoencoder",
            section=f"{start.where}.pretraining.autoencoder",
            make=make,
        )
    )
    return dict(network.net.get_submodule("encoder").state_dict())
