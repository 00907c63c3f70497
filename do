#!/usr/bin/env python3
"""Set up and run tenure from its source tree. Needs only Python 3.11 and its standard library.

usage: ./do COMMAND [ARGUMENT...]

  demo [ARG...]          set up, then run `tenure demo inspection ARG...`; try --once
  test [--slow] [--foreign] [--no-system] [PYTEST ARG...]
                         set up, check, and run the tests; --slow adds the long simulations and random examples,
                         --foreign adds clients with large environments of their own, and fails where one
                         cannot be made; --no-system goes on without Chromium and PostgreSQL (their tests are
                         skipped)
  check                  lint, format, types, imports between the parts, size report
  bench [ARG...]         run benchmarks/serving.py
  lock                   maintainers: write the requirements locks anew (needs uv)
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
BIN = VENV / "bin"
LOCKS = {"demo": "requirements.lock", "dev": "requirements-dev.lock", "node": "requirements-node.lock"}
SLOWEST_FIRST = ("journeys", "foreign", "browser", "statistics", "properties", "docs", "unit")
OLDEST = (3, 11)


def main(arguments: list[str]) -> int:
    """Run one command; returns its exit code."""
    command, rest = (arguments[0], arguments[1:]) if arguments else ("help", [])
    commands = {"demo": demo, "test": test, "check": check, "bench": bench, "lock": lock}
    if command in ("help", "-h", "--help"):
        print(__doc__.strip())
        return 0
    if command not in commands:
        stop(f"unknown command {command}, expected one of {', '.join(commands)}; ./do help says more")
    use_new_python()
    os.chdir(ROOT)
    return commands[command](rest)


def demo(arguments: list[str]) -> int:
    """Set up what running needs and become the demo."""
    set_up("demo")
    build_console()
    become([BIN / "tenure", "demo", "inspection", *arguments])
    return 0


def test(arguments: list[str]) -> int:
    """Set up what testing needs, check the code, and become pytest."""
    slow, foreign, system = "--slow" in arguments, "--foreign" in arguments, "--no-system" not in arguments
    rest = [each for each in arguments if each not in ("--slow", "--foreign", "--no-system")]
    if foreign:
        os.environ["TENURE_FOREIGN"] = "required"
    set_up("dev")
    if system:
        install_system_packages()
    build_console()
    if check([]) or test_console():
        return 1
    become([BIN / "pytest", *pytest_arguments(rest, slow=slow, foreign=foreign)])
    return 0


def pytest_arguments(given: list[str], *, slow: bool, foreign: bool = False) -> list[str]:
    """Return pytest's arguments: the user's own come last and win."""
    workers = max(1, min(4, os.cpu_count() or 1))
    chosen = ["-n", str(workers), "--dist", "loadfile", "--no-loadscope-reorder"]
    left_out = [f"not {name}" for name, wanted in (("slow", slow), ("foreign", foreign)) if not wanted]
    chosen += ["-m", " and ".join(left_out)] if left_out else []
    chosen += ["--timeout", "3600", "--hypothesis-profile", "random"] if slow else []
    if not any((ROOT / each.partition("::")[0]).exists() for each in given):
        folders = [f"tests/{name}" for name in SLOWEST_FIRST if any((ROOT / "tests" / name).rglob("test_*.py"))]
        chosen += [*folders, "--doctest-modules", "src/tenure", "--ignore-glob", "*/migrations/*"]
        chosen += ["--ignore-glob", "*/foreign/clients/*"]  # they run in environments of their own
    return chosen + given


def check(arguments: list[str]) -> int:
    """Run every static check, also after one failed; returns 1 when any did."""
    set_up("dev")
    steps = {
        "ruff check": [BIN / "ruff", "check", "--no-cache", "--quiet", ".", "do"],
        "ruff format": [BIN / "ruff", "format", "--check", "--quiet", ".", "do"],
        "mypy": [BIN / "mypy", "--no-error-summary"],
        "import-linter": [BIN / "lint-imports", "--no-logo"],
    }
    failed = [name for name, command in steps.items() if not passes(name, command)]
    report_sizes()
    if failed:
        say(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


def passes(name: str, command: list[object]) -> bool:
    """Run one check; its output is shown only when it fails."""
    quiet = {"capture_output": True, "text": True, "stdin": subprocess.DEVNULL}
    done = subprocess.run([*map(str, command)], cwd=ROOT, **quiet)
    say(f"{name}: {'ok' if done.returncode == 0 else 'FAILED'}")
    if done.returncode:
        print(done.stdout + done.stderr, file=sys.stderr)
    return done.returncode == 0


def report_sizes() -> None:
    """Print files and lines of each part, and the files that may hold a second idea."""
    files = sorted((ROOT / "src" / "tenure").rglob("*.py"))
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    parts: dict[str, list[int]] = {}
    for path, count in lines.items():
        place = path.relative_to(ROOT / "src" / "tenure").parts
        parts.setdefault(place[0] if len(place) > 1 else "(top)", []).append(count)
    told = ", ".join(f"{name} {len(counts)}/{sum(counts)}" for name, counts in sorted(parts.items()))
    say(f"files/lines: {told}; all {len(lines)}/{sum(lines.values())}")
    for path, count in sorted(lines.items(), key=lambda each: -each[1]):
        if count > 400:
            say(f"long: {path.relative_to(ROOT)} has {count} lines")


def bench(arguments: list[str]) -> int:
    """Become the serving benchmark."""
    set_up("dev")
    become([BIN / "python", ROOT / "benchmarks" / "serving.py", *arguments])
    return 0


def lock(arguments: list[str]) -> int:
    """Write the locks with uv: hashes for all platforms, no host names."""
    uv = shutil.which("uv") or os.environ.get("UV")
    if uv is None:
        stop("uv was not found; install it, or name it: UV=/path/to/uv ./do lock")
    base = [uv, "pip", "compile", "-q", "--universal", "--python-version", "3.11", "--generate-hashes"]
    base += ["--no-emit-index-url", "--no-header", "--no-annotate", *arguments]
    extras = ["--extra", "demo", "--extra", "postgres", "--extra", "audio"]
    same = ["-c", LOCKS["dev"]]
    run([*base, *extras, "--group", "dev", "pyproject.toml", "-o", LOCKS["dev"]])
    run([*base, "--extra", "demo", "--group", "build", *same, "pyproject.toml", "-o", LOCKS["demo"]])
    run([*base, "--group", "node", "-o", LOCKS["node"]])
    return 0


def set_up(kind: str) -> None:
    """Bring .venv to the lock of `kind`; the developers' lock holds the demo's."""
    make_venv()
    if not (is_stamped("dev", LOCKS["dev"]) or (kind == "demo" and is_stamped("demo", LOCKS["demo"]))):
        install(kind)
        for other in ("demo", "dev"):
            stamp_file(other).unlink(missing_ok=True)
        stamp(kind, LOCKS[kind])
    if not is_stamped("self", "pyproject.toml"):
        pip("install", "--no-build-isolation", "--no-deps", "-e", ".", why="tenure itself could not be installed")
        stamp("self", "pyproject.toml")


def make_venv() -> None:
    """Create .venv, or anew when its Python is gone or too old."""
    probe = [str(BIN / "python"), "-c", f"import sys, pip; sys.exit(sys.version_info < {OLDEST})"]
    if (BIN / "python").exists() and subprocess.run(probe, capture_output=True).returncode == 0:
        return
    say("creating .venv")
    made = subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], capture_output=True, text=True)
    if made.returncode:
        shutil.rmtree(VENV, ignore_errors=True)
        version = ".".join(map(str, sys.version_info[:2]))
        stop(
            f"this Python cannot make a virtual environment. On Debian and Ubuntu run:\n"
            f"  apt-get install -y python{version}-venv\n\n{made.stdout}{made.stderr}"
        )


def install(kind: str) -> None:
    """Install exactly what a lock names, each file checked against its hash."""
    packages = (ROOT / LOCKS[kind]).read_text(encoding="utf-8").count("==")
    say(f"installing {packages} packages from {LOCKS[kind]} into .venv; this takes a minute or two")
    pip("install", "--require-hashes", "-r", LOCKS[kind], why=f"{LOCKS[kind]} could not be installed")


def pip(*arguments: str, why: str) -> None:
    """Run pip in .venv, by the user's own pip configuration."""
    command = [str(BIN / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    if subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=sys.stderr).returncode:
        stop(
            f"{why}; pip's own words are above.\n"
            "Without a network, name a mirror or a folder of wheels: PIP_INDEX_URL=… or PIP_FIND_LINKS=…"
        )


def build_console() -> None:
    """Build the console's page when its source changed, with the system's node or the one that pip has."""
    import hatch_build

    if not hatch_build.stale():
        return
    need_node(hatch_build.system_node() is not None)
    say("building the console")
    if subprocess.run([str(BIN / "python"), "hatch_build.py"], cwd=ROOT, stdout=sys.stderr).returncode:
        stop("the console could not be built; the words of npm, tsc or vite are above. npm needs a network once.")


def need_node(on_system: bool) -> None:
    """Install node by pip when the system has none that is new enough."""
    if not on_system and not is_stamped("node", LOCKS["node"]):
        say("no node 20.19 or newer here: installing one by pip")
        install("node")
        stamp("node", LOCKS["node"])


def test_console() -> int:
    """Run the console's own unit tests; returns their exit code."""
    vitest = ROOT / "ui" / "node_modules" / "vitest" / "vitest.mjs"
    if not vitest.exists():
        say("console tests: skipped, ui/node_modules is absent")
        return 0
    call = f"import hatch_build as h; (h.system_node() or h.wheel_node())('node', [{str(vitest)!r}, 'run'])"
    return 0 if passes("console tests", [BIN / "python", "-c", call]) else 1


def install_system_packages() -> None:
    """Install what the browser and database tests need, or say the one line that does."""
    present = {"chromium": has_chromium(), "postgresql": has_postgres()}
    missing = [name for name, found in present.items() if not found]
    if not missing:
        return
    as_root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    apt = [*as_root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q"]
    if shutil.which("apt-get") and (not as_root or may_sudo()):
        say(f"installing {' and '.join(missing)} by apt")
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
        subprocess.run([*apt, "update"], **quiet)
        wanted = [*apt, "install", "-y", "--no-install-recommends", *missing]
        if subprocess.run(wanted, **quiet).returncode == 0:
            return
    stop(
        f"the tests need {' and '.join(missing)}. Run:\n"
        f"  sudo apt-get install -y --no-install-recommends {' '.join(missing)}\n"
        "or go on without, their tests are then skipped: ./do test --no-system"
    )


def has_chromium() -> bool:
    """Say whether a Chromium is on the path."""
    return any(shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome"))


def has_postgres() -> bool:
    """Say whether PostgreSQL's server programs are there; Debian keeps them off the path."""
    return bool(shutil.which("initdb")) or any(Path("/usr/lib/postgresql").glob("*/bin/initdb"))


def may_sudo() -> bool:
    """Say whether sudo works without a password."""
    if shutil.which("sudo") is None:
        return False
    return subprocess.run(["sudo", "-n", "true"], capture_output=True).returncode == 0


def use_new_python() -> None:
    """Go on under a newer Python when this one is too old."""
    if sys.version_info >= OLDEST:
        return
    for minor in (14, 13, 12, 11):
        newer = shutil.which(f"python3.{minor}")
        if newer:
            os.execv(newer, [newer, *sys.argv])
    stop(f"Python 3.11 or newer is needed, this is {sys.version.split()[0]} and no newer one is on the path")


def is_stamped(name: str, source: str) -> bool:
    """Say whether .venv already holds what `source` names."""
    return stamp_file(name).is_file() and stamp_file(name).read_text() == fingerprint(source)


def stamp(name: str, source: str) -> None:
    """Note that .venv holds what `source` names."""
    stamp_file(name).write_text(fingerprint(source))


def stamp_file(name: str) -> Path:
    """Return where a stamp lies; it dies with the environment."""
    return VENV / f".tenure-{name}"


def fingerprint(source: str) -> str:
    """Return a file's hash."""
    return hashlib.sha256((ROOT / source).read_bytes()).hexdigest()


def run(command: list[object]) -> None:
    """Run a command and stop when it fails."""
    code = subprocess.run([*map(str, command)], cwd=ROOT).returncode
    if code:
        stop(f"{command[0]} failed with code {code}")


def become(command: list[object]) -> None:
    """Replace this process, so that signals and the exit code are the command's own."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(str(command[0]), [*map(str, command)])


def say(text: str) -> None:
    """Tell the user what goes on."""
    print(f"do: {text}", file=sys.stderr, flush=True)


def stop(text: str) -> NoReturn:
    """End with a message."""
    raise SystemExit(f"do: {text}")


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
