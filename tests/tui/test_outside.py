"""What is taken out of the dashboard: by `y`, `Y`, `e` and `v`."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from fleet_tui.outside import CLIPBOARD_BYTES, capped, folded, program
from tests.tui.driver import dashboard
from tests.tui.recorded import gesture_lab, job

SIZES = [(80, 24), (120, 36)]


@pytest.mark.parametrize(("width", "height"), SIZES)
async def test_the_id_by_one_key_and_the_rest_by_a_menu(width: int, height: int) -> None:
    async with dashboard(gesture_lab(), width=width, height=height) as shown:
        await shown.until("cnn-oracle")
        failed = job("gru-lr-too-high")
        await shown.press("2")
        await shown.until(lambda: shown.at == failed.name)
        await shown.press("y")
        await shown.until("✓ told the terminal to copy the id")
        assert shown.app.clipboard == failed.job_id
        for key, what, text in (
            ("n", "name", failed.name),
            ("e", "error", "ValueError: loss is nan at step 312 (lr=3.0)"),
            ("c", "command", f"fleet show {failed.job_id}"),
        ):
            await shown.press("Y")
            await shown.until(f"{key}  {what}")
            await shown.press(key)
            await shown.until(f"copy the {what}")
            assert shown.app.clipboard == text
        await shown.press("Y", "j")
        await shown.until("copy the JSON")
        assert json.loads(shown.app.clipboard)["job_id"] == failed.job_id
        await shown.press("3", "y")
        await shown.until("copy the id")
        assert shown.app.clipboard != failed.job_id


@pytest.mark.parametrize(("width", "height"), SIZES)
async def test_no_other_program_where_there_is_none(
    width: int, height: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VISUAL", "/nowhere/editor --wait")
    monkeypatch.setenv("PAGER", "true")
    async with dashboard(gesture_lab(), width=width, height=height) as shown:
        await shown.until("cnn-oracle")
        await shown.press("2")
        await shown.until("raise ValueError")
        await shown.press("e")
        await shown.until("✗ VISUAL names /nowhere/editor, which is not there")
        await shown.press("v")
        await shown.until("✗ this terminal cannot be handed to another program")
        await shown.press("3", "v")
        await shown.until("✗ no job is selected")


def test_the_clipboard_gets_what_terminals_take() -> None:
    assert capped("short") == ("short", False)
    text, cut = capped("ü" * CLIPBOARD_BYTES)
    assert cut
    assert CLIPBOARD_BYTES - 1 <= len(text.encode()) <= CLIPBOARD_BYTES


def test_which_program() -> None:
    assert program(("EDITOR",), (), {"EDITOR": "sh -c true"}) == ["sh", "-c", "true"]
    assert program(("EDITOR",), ("nowhere", "sh"), {"EDITOR": " "}) == ["sh"]
    assert (
        program(("EDITOR",), ("no-vi", "no-nano"), {})
        == "EDITOR names no program, and there is no no-vi or no-nano"
    )
    assert program(("EDITOR",), (), {"EDITOR": "'"}) == "EDITOR is no command: No closing quotation"


async def test_a_paged_log_drives_no_terminal() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for piece in (b"a\x1b]52;c;", b"aGk=\x07b\n10%\r", b"20%\n\xff"):
            yield piece

    assert b"".join([piece async for piece in folded(pieces())]).decode() == "ab\n20%\n�\n"
