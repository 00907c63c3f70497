"""Environments of the other servers: each its own, with versions that were seen to work together."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

COMMON = ("onnxruntime==1.32.0", "pillow>=12,<14")
PINS: dict[str, tuple[str, ...]] = {
    "mlserver": ("mlserver==1.7.1", "uvloop<0.22"),  # its parallel workers ask for a loop that newer ones refuse
    "litserve": ("litserve==0.2.19", "uvloop>=0.22", "python-multipart>=0.0.20"),
    "bentoml": ("bentoml==1.4.39", "uvloop>=0.22"),  # does not bring it, and is 1.2 times as fast with it
    "kserve": ("kserve==0.21.0",),
    "mlflow": ("mlflow==3.17.2",),
    "ray": ("ray[serve]==2.60.0", "python-multipart>=0.0.20"),
}
_INSTALL_S = 1500


class NotInstalledError(Exception):
    """A peer that cannot take part; the message is the reason."""


def default_cache() -> Path:
    return Path.home() / ".cache" / "tenure-bench"


def python_of(peer: str, cache: Path) -> Path:
    """Return the interpreter of an installed peer.

    Raises:
        NotInstalledError: it is absent, or of other pins.
    """
    home = cache / peer
    if not _is_stamped(home, peer):
        raise NotInstalledError("not installed; --peers installs it")
    return home / "bin" / "python"


def install(peer: str, cache: Path) -> None:
    """Make a peer's environment anew unless it is there with these pins.

    Raises:
        NotInstalledError: pip refused; the message is pip's last word.
    """
    home = cache / peer
    if _is_stamped(home, peer):
        return
    print(f"installing {peer} into {home}", flush=True)
    shutil.rmtree(home, ignore_errors=True)
    cache.mkdir(parents=True, exist_ok=True)
    _run([sys.executable, "-m", "venv", str(home)])
    pip = [str(home / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--quiet"]
    _run([*pip, "install", *PINS[peer], *COMMON])
    done = subprocess.run([*pip, "freeze"], capture_output=True, text=True, check=True, timeout=120)
    (home / "installed.txt").write_text(done.stdout)
    (home / "pins.sha256").write_text(_fingerprint(peer))


def versions(peer: str, cache: Path) -> list[str]:
    """Return the pinned packages as they were installed."""
    names = {pin.partition("=")[0].partition("<")[0].partition(">")[0].partition("[")[0] for pin in PINS[peer]}
    lines = (cache / peer / "installed.txt").read_text().splitlines()
    return [line for line in lines if line.partition("==")[0].lower() in names | {"onnxruntime", "numpy"}]


def _is_stamped(home: Path, peer: str) -> bool:
    stamp = home / "pins.sha256"
    return stamp.is_file() and stamp.read_text() == _fingerprint(peer)


def _fingerprint(peer: str) -> str:
    return hashlib.sha256("\n".join((*PINS[peer], *COMMON)).encode()).hexdigest()


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotInstalledError(f"cannot install: {error}") from error
    if done.returncode:
        words = (done.stderr or done.stdout).strip().splitlines()
        raise NotInstalledError(f"cannot install: {words[-1][:300] if words else 'pip said nothing'}")
