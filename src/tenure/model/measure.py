"""Latency and memory of a version, measured in a process that does nothing else and has loaded nothing before.

`python -m tenure.model.measure BUNDLE RESULT` is that process; it reads the operator's word from standard input.
"""

from __future__ import annotations

import gc
import os
import platform
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

import msgspec
import psutil

from tenure.clock import SystemClock
from tenure.errors import ModelError
from tenure.model.bundle import Bundle, load, open_bundle, smoke_test
from tenure.model.manifest import Hardware, Latency, Measured
from tenure.model.pipeline import Pipeline
from tenure.scope.project import Trust

BATCHES = (1, 32)
_SECONDS, _LEAST, _MOST = 1.0, 5, 500
"""For each size of batch: time to spend, and the least and most runs."""

_TOO_SLOW_S = 60.0
_TIMEOUT_S = 600.0
_ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"
)
_LIBRARIES = {
    "numpy": "numpy", "scipy": "scipy", "pandas": "pandas", "onnxruntime": "onnxruntime",
    "sklearn": "scikit-learn", "skops": "skops", "xgboost": "xgboost", "lightgbm": "lightgbm",
    "torch": "torch", "mlflow": "mlflow", "transformers": "transformers",
    "tensorflow": "tensorflow", "cv2": "opencv-python",
}  # fmt: skip


def measure(path: Path, trusted: Trust) -> Measured:
    """Measure the bundle in a folder, whose manifest may lack nothing but what is measured.

    Raises:
        ModelError: a new process cannot load it, or answers its sample differently, or takes over 10 minutes.
    """
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder, "measured.json")
        command = [sys.executable, "-m", "tenure.model.measure", str(path), str(result)]
        paths = os.pathsep.join(dict.fromkeys(p or os.getcwd() for p in sys.path))
        try:
            done = subprocess.run(
                command, input=msgspec.json.encode(trusted), capture_output=True, timeout=_TIMEOUT_S, check=False,
                env={**os.environ, **_ONE_THREAD, "PYTHONPATH": paths},
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise ModelError(f"measuring took longer than {_TIMEOUT_S:g} s", at="measured") from None
        if done.returncode or not result.is_file():
            raise ModelError(
                f"a new process cannot run the version: {_last_line(done)}", at="measured", code="not_repeatable"
            )
        return msgspec.json.decode(result.read_bytes(), type=Measured)


def _last_line(done: subprocess.CompletedProcess[bytes]) -> str:
    if done.returncode < 0:
        return f"it was ended by signal {-done.returncode}"
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    return lines[-1][:500] if lines else f"it ended with code {done.returncode}"


# The new process


def main(bundle: Bundle, trusted: Trust) -> Measured:
    """Load the bundle here and measure it."""
    process = psutil.Process()
    gc.collect()
    before = process.memory_info().rss
    pipeline = load(bundle, trusted=trusted)
    smoke_test(pipeline, bundle)
    latency = {str(size): _latency(pipeline, bundle, size) for size in BATCHES if _fits(pipeline, bundle, size)}
    gc.collect()
    after = process.memory_info().rss
    return Measured(
        latency=latency,
        memory_mb=round(max(0, after - before) / 2**20, 1),
        process_mb=round(after / 2**20, 1),
        hardware=hardware(),
    )


def _fits(pipeline: Pipeline, bundle: Bundle, size: int) -> bool:
    """Say whether a batch takes a bearable time, judged by one item."""
    return size == 1 or _timed(pipeline, bundle, 1) * size < _TOO_SLOW_S


def _latency(pipeline: Pipeline, bundle: Bundle, size: int) -> Latency:
    times: list[float] = []
    while len(times) < _LEAST or (sum(times) < _SECONDS and len(times) < _MOST):
        times.append(_timed(pipeline, bundle, size))
        if sum(times) > _TOO_SLOW_S:
            break
    ordered = sorted(times)
    return Latency(
        p50_ms=round(ordered[len(ordered) // 2] * 1e3, 4),
        p99_ms=round(ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))] * 1e3, 4),
        runs=len(ordered),
    )


def _timed(pipeline: Pipeline, bundle: Bundle, size: int) -> float:
    clock = SystemClock()
    batch = [bundle.sample() for _ in range(size)]
    start = clock.monotonic_ns()
    pipeline.run(batch)
    return (clock.monotonic_ns() - start) / 1e9


def hardware() -> Hardware:
    """Say what this process runs on, and the versions of the libraries it has loaded."""
    found = {}
    for module, name in _LIBRARIES.items():
        if module in sys.modules:
            try:
                found[name] = metadata.version(name)
            except metadata.PackageNotFoundError:
                found[name] = str(getattr(sys.modules[module], "__version__", "unknown"))
    return Hardware(
        cpu=_cpu(),
        cores=os.cpu_count() or 1,
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        libraries=found,
    )


def _cpu() -> str:
    """Return the processor's name; Linux has it in a file, other systems are asked."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model"))]
    return names[0] if names else platform.processor() or "unknown"


if __name__ == "__main__":
    _trusted = msgspec.json.decode(sys.stdin.buffer.read(), type=Trust)
    try:
        _found = main(open_bundle(Path(sys.argv[1]), verify=False), _trusted)
    except ModelError as _error:
        raise SystemExit(_error.message) from None
    Path(sys.argv[2]).write_bytes(msgspec.json.encode(_found))
