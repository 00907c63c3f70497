"""Files that would run code when loaded are refused; the exploits here are real and would write a file."""

import bz2
import gzip
import hashlib
import io
import json
import lzma
import os
import pickle
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from model_bundles import scaling, source

from tenure.errors import ModelError, ProjectError
from tenure.model.bundle import load, open_bundle
from tenure.model.contents import listing
from tenure.model.manifest import parse
from tenure.model.trust import folder_digest, refuse, runs_code
from tenure.scope.project import Trust
from tenure.scope.reader import read_project


class Exploit:
    """Runs a shell command when it is unpickled."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.proof}",)


def zipped(name: str, content: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(name, content)
    return out.getvalue()


def saved(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array, allow_pickle=True)
    return out.getvalue()


@pytest.fixture
def proof(tmp_path: Path) -> Path:
    return tmp_path / "pwned"


WRAPPERS: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda b: b,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zlib": zlib.compress,
    "torch archive": lambda b: zipped("archive/data.pkl", b),
    "zip under another name": lambda b: zipped("weights.bin", b),
}


@pytest.mark.filterwarnings("ignore:invalid escape sequence")  # from walking random bytes as text opcodes
@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_is_known_by_its_content(tmp_path: Path, proof: Path, wrapper: str, protocol: int) -> None:
    file = tmp_path / "model.bin"
    file.write_bytes(WRAPPERS[wrapper](pickle.dumps(Exploit(proof), protocol=protocol)))
    assert "pickle" in (runs_code(file) or "")
    assert not proof.exists()


def test_a_long_pickle_cannot_hide_behind_its_size(tmp_path: Path, proof: Path) -> None:
    content = pickle.dumps([Exploit(proof), "x" * 3_000_000], protocol=0)
    for name, body in (("a.bin", content), ("b.bin", zipped("w", content)), ("c.bin", gzip.compress(content))):
        (tmp_path / name).write_bytes(body)
        assert runs_code(tmp_path / name)


def test_the_exploit_would_work(proof: Path) -> None:
    pickle.loads(pickle.dumps(Exploit(proof)))
    assert proof.exists()


@pytest.mark.parametrize("name", ["m.pkl", "m.PICKLE", "m.joblib", "m.pt", "m.pth", "m.ckpt", "m.so"])
def test_an_ending_is_enough(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"harmless")
    assert runs_code(tmp_path / name)


def test_arrays_of_objects_are_pickles_inside(tmp_path: Path) -> None:
    array = np.array([{"a": 1}], dtype=object)
    (tmp_path / "a.npy").write_bytes(saved(array))
    (tmp_path / "a.npz").write_bytes(zipped("x.npy", saved(array)))
    assert runs_code(tmp_path / "a.npy")
    assert runs_code(tmp_path / "a.npz")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"0.25",
        b'{"a": [1, 2]}',
        b"label\ngood\ndefect\n",
        b"(lp0\nnot a pickle",
        b"\x80",
        b"\x80\x04",
        bytes(range(256)) * 4,
        saved(np.arange(5.0)),
        zipped("x.npy", saved(np.arange(5.0))),
        gzip.compress(b"text", mtime=0),
        zlib.compress(b"text"),
        b"PK\x03\x04 broken",
        b"\x1f\x8b broken",
        b"\x08\x09\x12\x04skl2",
        np.random.default_rng(0).bytes(5000),
    ],
)
def test_data_is_let_through(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "data.bin").write_bytes(content)
    assert runs_code(tmp_path / "data.bin") is None


def test_a_bundle_with_a_pickle_is_neither_built_nor_run(tmp_path: Path, proof: Path) -> None:
    _, files = source(tmp_path)
    (files / "model.onnx").write_bytes(pickle.dumps(Exploit(proof)))
    with pytest.raises(ModelError, match=r"files/model.onnx: it is a pickle") as caught:
        scaling(tmp_path)
    assert caught.value.code == "untrusted_file"
    assert not proof.exists()
    assert not list((tmp_path / "data" / "bundles").iterdir())


def test_only_the_operators_hash_lets_a_pickle_in(tmp_path: Path) -> None:
    _, files = source(tmp_path)
    content = pickle.dumps({"weights": [1, 2]})
    (files / "extra.pkl").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    with pytest.raises(ModelError, match=digest):
        scaling(tmp_path)
    made = scaling(tmp_path, trusted=Trust(sha256=(digest,)))
    load(open_bundle(made.path), trusted=Trust(sha256=(digest,)))
    with pytest.raises(ModelError, match=digest):
        load(open_bundle(made.path))


def test_a_manifest_cannot_vouch_for_its_own_files(tmp_path: Path) -> None:
    path = scaling(tmp_path).path / "manifest.json"
    said = {**json.loads(path.read_text()), "trusted_sha256": ["0" * 64]}
    with pytest.raises(ModelError, match="trusted_sha256"):
        parse(json.dumps(said).encode())


def mlflow_folder(files: Path) -> str:
    """Write an MLflow model whose loader would run a file of its own; return the digest that an operator pins."""
    (files / "flow" / "code").mkdir(parents=True)
    (files / "flow" / "MLmodel").write_text(
        "flavors:\n  python_function:\n    loader_module: evil\n    code: code\n"
    )
    (files / "flow" / "code" / "evil.py").write_text("raise SystemExit\n")
    return folder_digest(listing(files), "flow")


def test_an_mlflow_folder_is_pinned_as_a_whole(tmp_path: Path) -> None:
    _, files = source(tmp_path)
    digest = mlflow_folder(files)
    with pytest.raises(ModelError, match=rf"flow/MLmodel: .*names the Python code.*{digest}") as caught:
        scaling(tmp_path)
    assert caught.value.code == "untrusted_file"
    trusted = Trust(sha256=(digest,))
    made = scaling(tmp_path, trusted=trusted)
    load(made, trusted=trusted)
    (files / "flow" / "code" / "evil.py").write_text("raise SystemExit  # another\n")
    with pytest.raises(ModelError, match="flow/MLmodel"):
        scaling(tmp_path, trusted=trusted)


def test_an_mlflow_folder_may_be_the_whole_of_the_files(tmp_path: Path) -> None:
    (tmp_path / "MLmodel").write_text("flavors: {}\n")
    entries = listing(tmp_path)
    with pytest.raises(ModelError, match=folder_digest(entries)):
        refuse(tmp_path, entries, Trust())
    refuse(tmp_path, entries, Trust(sha256=(folder_digest(entries),)))


def test_the_operator_s_word_stands_in_the_project_file() -> None:
    text = "project: p\nscope: {y: {labels: [a, b]}}\nendpoints: {e: {input: text, automation: {max: assist}}}\n"
    digest = "ab" * 32
    project = read_project(f"{text}trust: {{sha256: [{digest}], skops: {{{digest}: [my.Type]}}}}\n")
    assert project.trust == Trust(sha256=(digest,), skops={digest: ("my.Type",)})
    with pytest.raises(
        ProjectError, match=r"tenure.yaml:4: trust.sha256\[0\]: expected a SHA-256 of 64 small hex"
    ):
        read_project(f"{text}trust: {{sha256: [ABC]}}\n")
