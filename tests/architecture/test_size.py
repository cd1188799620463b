"""The size budget. An exception is a line here with its reason; a limit raised without one defeats the budget."""

from __future__ import annotations

from tests.architecture.source import PRODUCT, ROOT, TESTS, Function, Source, height

HISTORY = ROOT / "alembic" / "fleet_migrations" / "versions"  # written once, then never edited


FUNCTION_LINES = 60
MODULE_LINES = 400
PARAMETERS = 8
FLAGS = 12  # a command's parameters are its flags: a person reads them in --help, never in a call
POSITIONAL = 6
ARCHITECTURE_LINES = 120

EXCEPTIONS = {
    # "path:function": (limit, "reason")
    "tests/tui/recorded.py:gesture_lab": (80, "a recording of a fleet is data"),
    "trainer/fleet_trainer/train.py:train": (120, "the training loop is one function, read top to bottom"),
}


def _function_limit(source: Source, function: Function) -> int:
    return EXCEPTIONS.get(f"{source.name}:{function.name}", (FUNCTION_LINES, ""))[0]


def test_functions_fit_on_a_screen():
    too_long = [
        f"{source.at(function)} {function.name}: {height(function)} lines"
        for source in [*PRODUCT, *TESTS]
        for function in source.functions()
        if height(function) > _function_limit(source, function) and not source.path.is_relative_to(HISTORY)
    ]
    assert not too_long


def test_modules_stay_small():
    too_long = [
        f"{source.name}: {len(source.lines)} lines"
        for source in PRODUCT
        if len(source.lines) > MODULE_LINES and not source.path.is_relative_to(HISTORY)
    ]
    assert not too_long


def _is_command_line(source: Source) -> bool:
    return "cli" in {source.path.stem, source.path.parent.name}


def test_parameters_are_few_and_named():
    crowded = []
    for source in PRODUCT:
        for function in source.functions():
            arguments = function.args.posonlyargs + function.args.args
            positional = [a.arg for a in arguments if a.arg not in {"self", "cls"}]
            total = len(positional) + len(function.args.kwonlyargs)
            command = _is_command_line(source)
            if total > (FLAGS if command else PARAMETERS) or (len(positional) > POSITIONAL and not command):
                crowded.append(
                    f"{source.at(function)} {function.name}: {total}, {len(positional)} by position"
                )
    assert not crowded


def test_every_exception_still_exists():
    names = {
        f"{source.name}:{function.name}" for source in [*PRODUCT, *TESTS] for function in source.functions()
    }
    assert not EXCEPTIONS.keys() - names


def test_architecture_is_read_in_one_sitting():
    assert len((ROOT / "ARCHITECTURE.md").read_text("utf-8").splitlines()) <= ARCHITECTURE_LINES
