"""Ray Serve: one replica behind its Python proxy, on a cluster of this machine alone, ended from inside."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

os.environ["PYTHONPATH"] = str(Path(__file__).parent)  # before Ray starts its processes: replicas import `work`

import ray
import work
from ray import serve
from starlette.requests import Request

QUIET = {"enable_access_log": False, "log_level": "ERROR"}


@serve.deployment(max_ongoing_requests=100, logging_config=QUIET)
class Answers:
    def __init__(self, models: str) -> None:
        self.risk, self.photo = work.Risk(Path(models)), work.Photo(Path(models))

    async def __call__(self, request: Request) -> dict[str, Any]:
        if request.url.path.endswith("/risk/predict"):
            return self.risk.answer(await request.json())
        if request.url.path.endswith("/form"):
            form = await request.form()
            return self.photo.answer(await form["file"].read())
        return self.photo.answer(await request.body())


def main() -> None:
    told = work.told(__doc__)
    stop = threading.Event()
    ray.init(
        num_cpus=2, include_dashboard=False, log_to_driver=False, _temp_dir=str(told.folder / "ray"),
        _node_ip_address="127.0.0.1", object_store_memory=200_000_000,
    )  # fmt: skip
    serve.start(http_options={"host": "127.0.0.1", "port": told.port}, logging_config=QUIET)
    serve.run(Answers.options(num_replicas=told.workers).bind(str(told.models)), route_prefix="/")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    stop.wait()
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main()
