"""Where a join token comes from, and how it gets out of sight."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from fleet_agent.credential import pin_of
from fleet_agent.errors import UsageError

VARIABLE = "FLEET_JOIN_TOKEN"


def join_token(options: dict[str, object]) -> str:
    """The token, taken out of `options` and of the environment: no child of ours has it. UsageError for none or two."""
    file, environment = options.pop("token_file"), os.environ.pop(VARIABLE, None)
    typed = options.pop("token")
    given = [source for source in (typed, file and _read(Path(str(file))), environment) if source]
    if len(given) != 1:
        raise UsageError(
            f"enrol takes one join token, by --token, --token-file or {VARIABLE}: `fleet join new` prints the line."
        )
    token = str(given[0]).strip()
    pin_of(token)  # half a line is told before anything begins
    return token


def _read(path: Path) -> str:
    try:
        return sys.stdin.read() if str(path) == "-" else path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--token-file {path} cannot be read: {error}.") from None


def hide_token() -> None:
    """Start anew with the token in a pipe: arguments are for everybody's eyes, as long as the program runs.

    For the moment until then it was to be seen; it is good for one use.
    """
    words, token = without_token(sys.argv[1:])
    if token is None or os.name != "posix":
        return
    reading, writing = os.pipe()
    os.write(writing, token.encode())
    os.close(writing)
    os.dup2(reading, 0)
    os.execv(sys.executable, [sys.executable, "-m", "fleet_agent", *words, "--token-file", "-"])


def without_token(words: list[str]) -> tuple[list[str], str | None]:
    """The arguments of `enrol` with no --token among them, and that; None where there is none."""
    if words[:1] != ["enrol"]:
        return words, None
    for place, word in enumerate(words):
        if word == "--token" and place + 1 < len(words):
            return words[:place] + words[place + 2 :], words[place + 1]
        if word.startswith("--token="):
            return words[:place] + words[place + 1 :], word.removeprefix("--token=")
    return words, None
