"""Every mistake with its file, line, key, what was found and what is allowed; and all of them at once."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from fleet_protocol.manifest import ManifestError, contents, load, parse

TEXT = """\
schema_version = 1
name = "lab"
[defaults]
seed = 0
[hosts.pi]
priority = 1
[[jobs]]
name = "one"
model = "mlp"
mode = "oracle"
hyper = {}
"""


def problems(text: str) -> list[tuple[int | None, str, str]]:
    with pytest.raises(ManifestError) as error:
        parse(text, "m.toml")
    assert all(problem.file == "m.toml" for problem in error.value.problems)
    return [(problem.line, problem.key, problem.message) for problem in error.value.problems]


def broken(line: int, by: str) -> str:
    lines = TEXT.splitlines()
    lines[line - 1] = by
    return "\n".join(lines) + "\n"


def test_the_text_that_is_broken_below_holds():
    assert len(parse(TEXT).jobs) == 1


MISTAKES = [
    # top
    (1, "schema_version = 2", "schema_version", "must be at most 1, found 2"),
    (1, "schema_version = true", "schema_version", "expected a whole number, found true"),
    (1, "schema_version = 1.0", "schema_version", "expected a whole number, found 1.0"),
    (1, 'schema_version = "1"', "schema_version", 'expected a whole number, found "1"'),
    (2, "name = 5", "name", "expected a string in quotes, found 5"),
    (2, 'nam = "lab"', "nam", "unknown key; did you mean `name`?"),
    (2, "jobz = 1", "jobz", "unknown key; did you mean `jobs`?"),
    # defaults
    (4, "seed = -1", "defaults.seed", "must be at least 0, found -1"),
    (4, "seed = 4294967296", "defaults.seed", "must be at most 4.29497e+09, found 4294967296"),
    (4, "sed = 1", "defaults.sed", "unknown key; did you mean `seed`?"),
    (4, "min_ram_gib = -0.5", "defaults.min_ram_gib", "must be at least 0, found -0.5"),
    (4, "min_ram_gib = nan", "defaults.min_ram_gib", "expected a finite number, found NaN"),
    (4, "min_ram_gib = inf", "defaults.min_ram_gib", "expected a finite number, found Infinity"),
    (4, "train_hosts = []", "defaults.train_hosts", "needs at least 1 entry, found none"),
    (4, 'train_hosts = "a"', "defaults.train_hosts", 'expected a list, found "a"'),
    (4, "n_resamples = 0", "defaults.n_resamples", "must be at least 1, found 0"),
    (4, 'split_recipe = "hosts"', "defaults.split_recipe", "expected 'host', 'sample' or 'time', found \"hosts\""),
    # hosts
    (6, "priority = 1.5", "hosts.pi.priority", "expected a whole number, found 1.5"),
    (6, "priority = 1.0", "hosts.pi.priority", "expected a whole number, found 1.0"),
    (6, "prio = 1", "hosts.pi.prio", "unknown key; did you mean `priority`?"),
    (6, 'allow_jobs = ["gtb"]', "hosts.pi.allow_jobs[0]", "there is no model 'gtb'; did you mean `gbt`?"),
    (6, 'deny_jobs = ["gbt", 3]', "hosts.pi.deny_jobs[1]", "expected a string in quotes, found 3"),
    # jobs
    (8, "name = ''", "jobs[0].name", "must be at least this many characters: 1, found \"\""),
    (8, "name = '   '", "jobs[0].name", None),
    (8, 'name = "a\\nb"', "jobs[0].name", None),
    (8, f'name = "{"x" * 201}"', "jobs[0].name", None),
    (9, 'model = "resnet"', "jobs[0].model", None),
    (9, 'model = "../etc"', "jobs[0].model", None),
    (10, 'mode = "real"', "jobs[0].mode", "expected 'realistic' or 'oracle', found \"real\""),
    (10, 'require_cuda = "false"', "jobs[0].require_cuda", 'expected true or false, found "false"'),
    (10, "prefer_cuda = 1", "jobs[0].prefer_cuda", "expected true or false, found 1"),
    (10, "min_vram_gib = -1", "jobs[0].min_vram_gib", "must be at least 0, found -1"),
    (10, "min_cores = -1", "jobs[0].min_cores", "must be at least 0, found -1"),
    (10, "min_cores = true", "jobs[0].min_cores", "expected a whole number, found true"),
    (10, "max_attempts = 0", "jobs[0].max_attempts", "must be at least 1, found 0"),
    (10, "allowed_hosts = [1]", "jobs[0].allowed_hosts[0]", "expected a string in quotes, found 1"),
    (10, "modle = 'x'", "jobs[0].modle", None),
    # hyper
    (11, "hyper = 5", "jobs[0].hyper", "expected a table, found 5"),
    (11, "hyper = { lr = 2024-01-01 }", "jobs[0].hyper.lr", None),
    (11, "hyper = { lr = nan }", "jobs[0].hyper.lr", "must be a finite number, found nan"),
    (11, "hyper = { lr = -inf }", "jobs[0].hyper.lr", "must be a finite number, found -inf"),
    (11, "hyper = { seed_ = 9007199254740993 }", "jobs[0].hyper.seed_", None),
    (11, "hyper = { lr = 'fast' }", "jobs[0].hyper.lr", None),
    (11, "hyper = { lr = true }", "jobs[0].hyper.lr", None),
    (11, "hyper = { lr = -1.0 }", "jobs[0].hyper.lr", None),
    (11, "hyper = { epochs = 1.5 }", "jobs[0].hyper.epochs", None),
    (11, "hyper = { epochs = 1.0 }", "jobs[0].hyper.epochs", None),
    (11, "hyper = { epohcs = 3 }", "jobs[0].hyper.epohcs", "not a setting of this model; did you mean `epochs`?"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "by", "key", "message"), MISTAKES)
def test_each_mistake_is_placed_and_explained(line: int, by: str, key: str, message: str | None):
    found = problems(broken(line, by))
    matching = [entry for entry in found if entry[:2] == (line, key)]
    assert matching, found
    if message is not None:
        assert matching == [(line, key, message)]
    assert all(text for _, _, text in found)


def test_what_is_required():
    assert problems(broken(9, "")) == [(7, "jobs[0].model", "is required")]
    assert (7, "jobs[0].name", "is required") in problems(broken(8, ""))
    assert problems("") == [(None, "jobs", "is required"), (None, "schema_version", "is required")]
    assert problems("schema_version = 1\njobs = []\n") == [(2, "jobs", "needs at least 1 entry, found none")]
    assert problems("schema_version = 1\njobs = 3\n") == [(2, "jobs", "expected a list, found 3")]


def test_not_toml_at_all():
    ((line, key, message),) = problems(broken(6, "priority = = 1"))
    assert (line, key) == (6, "")
    assert message.startswith("not valid TOML: ")
    ((line, _, message),) = problems(TEXT + "[hosts.pi]\n")
    assert message.startswith("not valid TOML: ")
    ((_, _, message),) = problems("x = " + "[" * 5000)
    assert message.startswith(("nested too deeply", "not valid TOML"))
    ((_, _, message),) = problems("#" * (4 * 1024 * 1024 + 1))
    assert message.startswith("too large")


def test_the_same_key_twice():
    ((_, _, message),) = problems(TEXT + 'name = "again"\n')
    assert message.startswith("not valid TOML: ")


def test_all_problems_are_told_at_once_in_the_files_order():
    text = """\
schema_version = 1
nmae = "lab"
[defaults]
seed = "x"
[hosts.pi]
allow_jobs = ["gbt", "gtb", "resnet"]
[[jobs]]
name = "one"
model = "gbt"
hyper = { trees = 0, nonsense = 1, lr = nan }
[[jobs]]
name = "two"
model = "mlp"
require_cuda = "false"
[jobs.hyper]
lr = 1979-05-27
[[jobs]]
model = "unknown"
min_cores = 1.5
"""
    assert [(line, key) for line, key, _ in problems(text)] == [
        (2, "nmae"),
        (4, "defaults.seed"),
        (6, "hosts.pi.allow_jobs[1]"),
        (6, "hosts.pi.allow_jobs[2]"),
        (10, "jobs[0].hyper.lr"),
        (10, "jobs[0].hyper.nonsense"),
        (10, "jobs[0].hyper.trees"),
        (14, "jobs[1].require_cuda"),
        (16, "jobs[1].hyper.lr"),
        (17, "jobs[2].name"),
        (18, "jobs[2].model"),
        (19, "jobs[2].min_cores"),
    ]


def test_a_problem_reads_as_an_editor_wants_it():
    with pytest.raises(ManifestError) as error:
        parse(broken(10, 'require_cuda = "false"'), "m.toml")
    assert str(error.value) == 'm.toml:10: jobs[0].require_cuda: expected true or false, found "false"'


def test_a_long_value_is_shortened():
    ((_, _, message),) = problems(broken(2, f"name = [{', '.join(['1'] * 500)}]"))
    assert len(message) < 200


def test_numbers_and_nesting_beyond_every_check():
    for number in ("9" * 5001, "0x" + "f" * 9000, "-9223372036854775809", "1" * 30):
        ((_, _, message),) = problems(broken(4, f"seed = {number}"))
        assert message.startswith("a whole number must fit into 64 bits")
    for levels in (25, 100, 300):
        for value in ("{ a = " * levels + "1" + " }" * levels, "[" * levels + "]" * levels):
            ((_, _, message),) = problems(broken(11, f"hyper = {value}"))
            assert message.startswith("nested too deeply")
    ((_, _, message),) = problems("a." * 3000 + "a = 1\n")
    assert message.startswith("nested too deeply")


@pytest.mark.parametrize("inner", ["not = ", "properties = { a = ", "anyOf = [{", "items = "])
def test_the_deepest_schema_that_is_allowed_can_be_checked(inner: str):
    head = "[models.own]\ncommand = ['x']\nhyper = "
    step, end = (
        ("{ anyOf = [", "] }") if inner == "anyOf = [{" else ("{ " + inner, " }" * inner.count("{") + " }")
    )
    levels = 20 if inner in ("not = ", "items = ") else 10
    schema = step * levels + "{ type = 'object' }" + end * levels
    text = TEXT.replace('model = "mlp"', 'model = "own"') + head + schema + "\n"
    with contextlib.suppress(ManifestError):  # whether the settings fit is no matter here
        parse(text)


def test_a_schema_is_json_too():
    text = TEXT + '[models.own]\ncommand = ["x"]\nhyper = { default = 2024-01-01 }\n'
    ((line, key, _),) = problems(text)
    assert (line, key) == (14, "models.own.hyper.default")


def test_unknown_tables_have_a_line():
    assert (12, "job") in [entry[:2] for entry in problems(TEXT + "[[job]]\nname = 'x'\n")]
    assert (12, "hots") in [entry[:2] for entry in problems(TEXT + "[hots.pi]\n")]


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path):
    file = tmp_path / "m.toml"
    file.write_text("\ufeff" + TEXT, encoding="utf-8")
    assert load(file) == parse("\ufeff" + TEXT) == parse(TEXT)
    assert problems("\ufeff" + broken(4, "seed = -1"))[0][:2] == (4, "defaults.seed")


def test_what_is_named_and_cannot_be_used_says_why(tmp_path: Path):
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "to").symlink_to(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    reasons = {
        "gone": "there is nothing at 'gone'",
        "pipe": "only regular files and folders can be used",
        "/dev/zero": "only regular files and folders can be used",
        "linked": "to is a link out of the folder; write its content instead",
        "loop": "cannot be read: Too many levels of symbolic links",
        "n\\u0000l": "embedded null byte",
    }
    tables = "".join(f'[datasets.d{n}]\npath = "{path}"\n' for n, path in enumerate(reasons))
    file = tmp_path / "m.toml"
    file.write_text(TEXT + tables)
    with pytest.raises(ManifestError) as error:
        load(file)
    found = {problem.key: problem.message for problem in error.value.problems}
    assert len(found) == len(reasons)
    for number, reason in enumerate(reasons.values()):
        assert reason in found[f"datasets.d{number}.path"]
    with pytest.raises(ManifestError, match="embedded null byte"):
        contents(TEXT + tables, tmp_path)


@pytest.mark.parametrize(
    "name", ["\\u001b[31m", "a\\u001b", "\\u0085", "a\\u009bb", "\\u007f", "\\t", "", "  "]
)
def test_no_name_is_empty_or_commands_a_terminal(name: str):
    job = f'allowed_hosts = ["{name}"]\ndenied_hosts = ["{name}"]\ntrain_hosts = ["{name}"]\n'
    tables = f'[hosts."{name}"]\npriority = 1\n[datasets."{name}"]\npath = "x"\n'
    found = [(line, key) for line, key, _ in problems(broken(8, f'name = "{name}"') + job + tables)]
    expected = {
        (8, "jobs[0].name"),
        *((12 + n, f"jobs[0].{key}_hosts[0]") for n, key in enumerate(("allowed", "denied", "train"))),
    }
    assert expected <= set(found)
    assert {"hosts", "datasets"} <= {key.split(".")[0] for _, key in found}


def test_a_grids_names_hold_no_control_characters():
    text = TEXT.replace('model = "mlp"', 'model = "own"') + 'matrix = { a = ["x\\u001b"] }\n'
    (job,) = parse(text + '[models.own]\ncommand = ["x"]\n').jobs
    assert job.name == 'one/a="x\\u001b"'


def test_outputs_stay_in_the_working_directory():
    own = '[models.own]\ncommand = ["x"]\noutputs = ["a/..b/*", "../x", "/etc/*", "a/../b"]\n'
    found = {key: message for _, key, message in problems(TEXT + own)}
    assert {*found} == {f"models.own.outputs[{n}]" for n in (1, 2, 3)}
    assert "'../x' leads out of the working directory" in found["models.own.outputs[1]"]
