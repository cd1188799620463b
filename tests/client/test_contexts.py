"""Several fleets by name: who is meant, with whose token, and what a broken settings file says."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from fleet_client import contexts
from fleet_client.client import connect
from fleet_client.contexts import Config, Context
from fleet_client.errors import BadSettings
from fleet_client.settings import find_target
from tests.client.fake import Coordinator
from tests.client.test_cli import Fleet

LAB, HOME = "https://lab.example", "http://127.0.0.1:8491"


@pytest.fixture
def fleet(
    coordinator: Coordinator, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> Fleet:
    monkeypatch.setenv("FLEET_URL", coordinator.url)  # and is restored after main() has set it
    return Fleet(capfdbinary, coordinator.url)


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.delenv("FLEET_TOKEN")
    kept = Config("lab", {"lab": Context(LAB, "l-token"), "home": Context(HOME, "h-token")})
    contexts.write(kept)
    return kept


def meant(**asked: str) -> tuple[str, str, str | None]:
    target = find_target(**asked)  # type: ignore[arg-type]  # url and context only
    return target.context, target.url, target.token


def test_flag_beats_environment_beats_file_beats_default(two: Config, monkeypatch: pytest.MonkeyPatch):
    assert contexts.read() == two
    assert meant() == ("lab", LAB, "l-token")
    monkeypatch.setenv("FLEET_CONTEXT", "home")
    assert meant() == ("home", HOME, "h-token")
    monkeypatch.setenv("FLEET_TOKEN", "e-token")
    assert meant() == ("home", HOME, "e-token")
    monkeypatch.setenv("FLEET_URL", "https://other.example")
    assert meant() == ("", "https://other.example", "e-token")
    assert meant(url=LAB + "/") == ("lab", LAB, "e-token")
    assert meant(context="lab") == ("lab", LAB, "l-token"), "a context by name is meant as a whole"
    monkeypatch.delenv("FLEET_TOKEN")
    assert meant() == ("", "https://other.example", None), "no context's token goes to another address"
    assert (connect(context="home").target.url, connect(context="home").target.token) == (HOME, "h-token")


def test_the_file_is_the_owners_alone_and_replaced_as_a_whole(two: Config):
    path = contexts.config_file()
    assert sys.platform == "win32" or path.stat().st_mode & 0o777 == 0o600
    odd = Context("https://x.example", 'q"uote\\ \x7f', None)
    contexts.write(Config(None, {"a.b": odd}))
    assert contexts.read() == Config(None, {"a.b": odd})
    assert [one.name for one in path.parent.iterdir()] == ["config.toml"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('contxt = "lab"', ":1: contxt: unknown key; did you mean `context`?"),
        (
            '[contexts.lab]\nurl = "x"\ntokn = "y"',
            ":3: contexts.lab.tokn: unknown key; did you mean `token`?",
        ),
        ("[contexts.lab]\nurl = 5", ":2: contexts.lab.url: expected a string in quotes, found 5"),
        ("[contexts.lab]", "contexts.lab.url: is required"),
        ('context = "lap"\n[contexts.lab]\nurl = "x"', "no context 'lap'; did you mean `lab`?"),
        ("context = ", "is no TOML file"),
    ],
)
def test_what_is_wrong_with_it_is_said_with_its_line(text: str, said: str, two: Config):
    contexts.config_file().write_text(text)
    with pytest.raises(BadSettings) as wrong:
        find_target()
    assert said in str(wrong.value)


def test_a_token_may_stay_in_a_file_of_its_own(two: Config, tmp_path: Path):
    file = tmp_path / "token"
    contexts.write(Config("lab", {"lab": Context(LAB, token_file=str(file))}))
    with pytest.raises(BadSettings, match=r"the token in .* cannot be read"):
        find_target()
    file.write_text("f-token\n")
    assert meant() == ("lab", LAB, "f-token")


def typed(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))


def test_contexts_by_the_command_line(
    coordinator: Coordinator, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
):
    typed(monkeypatch, "the-token\n")
    added = fleet("context", "add", "fake", coordinator.url)
    assert (added.code, added.err) == (0, "fleet: added fake, which is used from now on\n")
    typed(monkeypatch, "")
    assert fleet("context", "add", "lab", LAB).err == "fleet: added lab\n"
    listed = fleet("context", "list").out
    assert "the-token" not in listed
    assert [line.split()[:3] for line in listed.splitlines()[1:]] == [
        ["*", "fake", coordinator.url],
        ["lab", LAB, "looked"],
    ]
    assert fleet("context", "add", "lab", LAB).code == 1
    assert fleet("context", "add", "l b", LAB).code == 2
    assert fleet("context", "add", "clear", "http://lab.example").code == 2
    assert "fleet context add nowhere URL" in fleet("context", "use", "nowhere").err
    assert fleet("context", "use", "lab").code == 0
    assert contexts.read().context == "lab"
    shown = fleet("config", "show", "--origin").out
    assert coordinator.url in shown
    assert "FLEET_URL" in shown
    assert "the-token" not in shown
    assert fleet("--context", "fake", "list").code == 2, "--url was given too"
    assert fleet("context", "remove", "lab").code == 0
    assert contexts.read().context is None


def test_a_context_by_its_flag_is_asked_with_its_own_token(
    coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
):
    from fleet_client.cli import main

    contexts.write(Config(None, {"fake": Context(coordinator.url, "the-token")}))
    monkeypatch.setenv("FLEET_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("FLEET_TOKEN", "of-another-fleet")
    with pytest.raises(SystemExit) as ended:
        main(["--context", "fake", "list"])
    assert ended.value.code in (0, None)
