"""Run a page's code blocks as a reader would: files are written, commands typed, outputs compared."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# ([\w.-]+\.(?:py|yaml))\n")
SERVER_START_S = 120
READER_S = 60.0
COMMAND_S = 250
READS = ("tenure log", "tenure reviews", "tenure report", "tenure level show", "tenure rollout show")


class Step(NamedTuple):
    """A command and the lines that the page shows below it; `…` stands for anything."""

    command: str
    shown: list[str]


def blocks(page: Path) -> list[tuple[str, str]]:
    return BLOCK.findall(page.read_text(encoding="utf-8"))


def steps(text: str) -> list[Step]:
    found: list[Step] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append(Step(line[2:], []))
        else:
            found[-1].shown.append(line)
    return found


class Reader:
    """A folder and a shell; `serve` goes on in the background on free ports until `close`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server: subprocess.Popen[str] | None = None
        self._files: dict[str, str] = {}
        self._ports: dict[str, str] = {}
        self._names: dict[str, str] = {}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self._env = {**os.environ, "PATH": path, "COLUMNS": "200"}
        self._env.pop("TENURE_PROJECT", None)

    def read(self, page: Path) -> int:
        """Do what a page says; return how many commands were typed."""
        typed = 0
        for language, text in blocks(page):
            named = FILE.match(text)
            if language in ("python", "yaml") and named:
                self._files[named[1]] = text
                (self.folder / named[1]).write_text(self._now(text))
            elif language == "console":
                for step in steps(text):
                    self._type(step)
                    typed += 1
        return typed

    def _type(self, step: Step) -> None:
        if step.command.startswith("tenure serve"):
            output = self._serve(step.command)
        else:
            output = self._run(self._now(step.command))
        wanted = "\n".join(step.shown)
        pattern = re.escape(wanted).replace("…", ".*")
        end = time.monotonic() + READER_S
        while step.command.startswith(READS) and not re.fullmatch(pattern, output, re.DOTALL):
            if time.monotonic() > end:  # the controller follows the log, a reader types slower than that
                break
            output = self._run(self._now(step.command))
        assert re.fullmatch(pattern, output, re.DOTALL), (
            f"$ {step.command}\n{output}\n--- the page shows\n{wanted}"
        )

    def _run(self, command: str) -> str:
        done = subprocess.run(
            command, shell=True, cwd=self.folder, env=self._env, capture_output=True, text=True,
            timeout=COMMAND_S, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 0, f"$ {command}\n{done.stdout}{done.stderr}"
        for name, sha in re.findall(r"\b([a-z]\w*)@([0-9a-f]{8})\b", done.stdout):
            self._names[name] = f"{name}@{sha}"
        return self._as_shown(done.stdout.strip("\n"))

    def _serve(self, command: str) -> str:
        self.server = subprocess.Popen(
            f"exec {command} --port 0 --console-port 0", shell=True, cwd=self.folder, env=self._env,
            stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert self.server.stderr is not None
        lines: list[str] = []
        end = time.monotonic() + SERVER_START_S
        while not (lines and lines[-1].endswith("Ctrl-C ends")):
            assert time.monotonic() < end, lines
            assert self.server.poll() is None, lines
            lines.append(self.server.stderr.readline().strip("\n"))
        found = re.findall(r"http://127\.0\.0\.1:(\d+)", "\n".join(lines))
        self._ports = {"8700": found[0], "8701": found[1]}
        for name, text in self._files.items():  # a page may show its client before the server
            (self.folder / name).write_text(self._now(text))
        return self._as_shown("\n".join(lines))

    def _now(self, text: str) -> str:
        """Put this run's ports and versions where the page has its own."""
        for shown, real in self._ports.items():
            text = text.replace(f":{shown}", f":{real}")
        return re.sub(r"\b(\w+)@…", lambda m: self._names.get(m[1], m[0]), text)

    def _as_shown(self, text: str) -> str:
        for shown, real in self._ports.items():
            text = text.replace(f":{real}", f":{shown}")
        return text

    def close(self) -> None:
        """End the server as Ctrl-C does; it must end well."""
        if self.server is not None:
            self.server.terminate()
            _, rest = self.server.communicate(timeout=COMMAND_S)
            assert self.server.returncode == 0, rest
