"""The photo model as a stage of ours: the same pixels and the same network as everybody's."""

import tenure

LABELS = ("bolt", "cable", "clip", "gear", "lens", "nut", "panel", "screw")


class Parts:
    def load(self, files):
        self.network = tenure.onnx(files / "photo.onnx")

    def predict_one(self, photo: tenure.Image) -> tenure.Prediction:
        import numpy as np
        from PIL import Image

        small = Image.fromarray(photo.pixels).resize((128, 128), Image.Resampling.BILINEAR)
        pixels = np.asarray(small, dtype=np.float32).transpose(2, 0, 1)[None]
        chances = self.network(np.ascontiguousarray(pixels) / np.float32(255))["probabilities"][0]
        best = int(chances.argmax())
        return tenure.Prediction(LABELS[best], confidence=float(chances[best]))
