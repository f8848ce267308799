"""The registered model as MLflow loads it (models from code: this file runs, nothing is unpickled).

``predict`` takes the bytes of image files, as a list or as a table with the column ``image``, and
returns a table with a row an image: ``label``, then ``p_CLASS``, calibrated, for each class. MLflow
puts the modules of ``pipeline`` that were packed with the model first on the path.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc import PythonModel, PythonModelContext

BATCH = 256


class ImageClassifier(PythonModel):
    """A model folder behind MLflow's interface."""

    def load_context(self, context: PythonModelContext) -> None:
        from pipeline.vision.inference import best_device, load_classifier
        from pipeline.vision.temperature import read_temperature

        folder = Path(context.artifacts["model"])
        self._device = best_device()
        self._classifier, self._card = load_classifier(folder, self._device)
        self._temperature = read_temperature(folder)

    def predict(self, model_input: pd.DataFrame) -> pd.DataFrame:
        """Label the images in the column ``image``, or in the first one.

        MLflow makes a table of a list before it calls this.

        Raises:
            MlflowException: a row is no usable image; the message names the row.
        """
        name = "image" if "image" in model_input else model_input.columns[0]
        images = list(model_input[name])
        parts = [self._predict(images, start) for start in range(0, len(images), BATCH)]
        columns = ["label", *(f"p_{name}" for name in self._card.classes)]
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)

    def _predict(self, images: list[bytes], start: int) -> pd.DataFrame:
        import numpy as np

        from pipeline.data.decode import DecodeError
        from pipeline.vision.inference import decode_for_model, predict_logits
        from pipeline.vision.temperature import softmax

        pixels = []
        for row, image in enumerate(images[start : start + BATCH], start=start):
            try:
                pixels.append(decode_for_model(image, self._card))
            except DecodeError as error:
                raise MlflowException(
                    f"row {row}: {error}", error_code=INVALID_PARAMETER_VALUE
                ) from error
        logits = predict_logits(
            self._classifier,
            np.stack(pixels),
            image_size=self._card.image_size,
            device=self._device,
            batch_size=BATCH,
            precision=self._card.plan["precision"],
            memory_format=self._card.plan["memory_format"],
        )
        classes = self._card.classes
        probabilities = softmax(logits, self._temperature).astype(np.float32)
        table = pd.DataFrame(probabilities, columns=[f"p_{name}" for name in classes])
        table.insert(0, "label", [classes[i] for i in logits.argmax(axis=1)])
        return table


set_model(ImageClassifier())
