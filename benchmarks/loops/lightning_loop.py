"""Lightning's Trainer over the same data, network and recipe as the torchvision loop.

``python lightning_loop.py CASE`` prints the images per second of the last epoch.
"""

from __future__ import annotations

import logging
import time
import warnings
from typing import Any

import lightning
import torch
from torch.nn import functional

from benchmarks.loops.case import LABEL_SMOOTHING, Case, asked, network, optimizer, report
from benchmarks.loops.torchvision_loop import accuracy, loader


class Module(lightning.LightningModule):
    def __init__(self, case: Case) -> None:
        super().__init__()
        self.model, self.case = network(case), case

    def training_step(self, batch: Any, *_: Any) -> torch.Tensor:
        pixels, targets = batch
        logits = self.model(pixels)
        loss = functional.cross_entropy(logits, targets, label_smoothing=LABEL_SMOOTHING)
        accuracy = (logits.argmax(dim=1) == targets).float().mean()
        self.log_dict({"loss": loss, "accuracy": accuracy}, on_step=False, on_epoch=True)
        return loss

    def configure_optimizers(self) -> Any:
        updates, schedule = optimizer(self.model, self.case)
        return {
            "optimizer": updates,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


class Clock(lightning.Callback):
    seconds = 0.0

    def on_train_epoch_start(self, *_: Any) -> None:
        self.start = time.perf_counter()

    def on_train_epoch_end(self, *_: Any) -> None:
        self.seconds = time.perf_counter() - self.start


def main() -> None:
    case, clock = asked(), Clock()
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    trainer = lightning.Trainer(
        accelerator="gpu" if case.device == "cuda" else "cpu",
        devices=1,
        precision="bf16-mixed" if case.amp else "32-true",
        max_epochs=case.epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[clock],
    )
    module = Module(case)
    trainer.fit(module, loader(case))
    images = case.images // case.batch_size * case.batch_size
    report(images, clock.seconds, accuracy(module.model, case))


if __name__ == "__main__":
    main()
