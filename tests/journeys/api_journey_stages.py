"""A stage for the journeys of the Python API; bundles keep this file."""

from __future__ import annotations

import tenure


class Inspector:
    def predict(self, photos: list[tenure.Image]) -> list[tenure.Prediction]:
        return [self.judge(photo) for photo in photos]

    def judge(self, photo: tenure.Image) -> tenure.Prediction:
        if photo.grey().mean() > 90:
            return tenure.Prediction("good", confidence=0.9)
        return tenure.Prediction("defect", confidence=0.8, regions=(tenure.Box(1, 2, 3, 4, "dark"),))
