"""Train on the oldest encounters and register the model: `python train.py encounters.parquet [--rows N]`."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from model import NUMBERS, WORDS, Readmission, matrix
from skl2onnx import to_onnx
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.metrics import roc_auc_score

import tenure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("encounters", type=Path, help="the 130-hospitals table as Parquet, oldest first")
    parser.add_argument("--rows", type=int, default=30_000, help="oldest encounters to learn from")
    told = parser.parse_args()
    table = pq.read_table(told.encounters, columns=[*NUMBERS, *WORDS, "readmitted"])
    columns = {name: np.array(table[name].to_pylist(), dtype=object) for name in table.column_names}
    known = {name: sorted({word for word in columns[name][: told.rows] if word is not None}) for name in WORDS}
    features, comes_back = matrix(columns, known), columns["readmitted"] == "<30"

    train = slice(0, told.rows)
    model = GradientBoostingClassifier(n_estimators=60, max_depth=4, subsample=0.5, random_state=1)
    model.fit(features[train], comes_back[train])
    later = slice(told.rows, None)
    auc = roc_auc_score(comes_back[later], model.predict_proba(features[later])[:, 1])

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "words.json").write_text(json.dumps(known))
        graph = to_onnx(model, features[:1], options={"zipmap": False})
        (Path(folder) / "model.onnx").write_bytes(graph.SerializeToString())
        sample = {name: columns[name][0] for name in (*NUMBERS, *WORDS)}
        version = tenure.register(
            "readmission", Readmission, sample=sample, files=folder,
            provenance={"rows": told.rows, "auc_on_later_encounters": round(float(auc), 4)},
        )  # fmt: skip
    print(f"{version}: AUC {auc:.3f} on {len(comes_back) - told.rows:,} later encounters")


if __name__ == "__main__":
    main()
