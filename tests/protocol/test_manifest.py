"""What a manifest means: ids, defaults, and what makes two jobs the same."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_protocol.manifest import ManifestError, find_manifest, load, parse

HEAD = "schema_version = 1\n"
ONE = HEAD + '[[jobs]]\nname = "one"\nmodel = "gbt"\n'


def independent_id(model: str, mode: str, hyper: object, split: str, hosts: list[str], seed: int) -> str:
    """Written from the specification alone, as another program would do it."""
    words = {
        "seed": seed,
        "train_hosts": hosts,
        "split_recipe": split,
        "hyper": hyper,
        "mode": mode,
        "model": model,
    }
    return hashlib.sha256(json.dumps(words, sort_keys=True).encode("utf-8")).hexdigest()[0:16]


def test_defaults():
    manifest = parse(ONE)
    (job,) = manifest.jobs
    assert (manifest.name, dict(manifest.hosts)) == ("training-fleet", {})
    assert job.model_dump(exclude={"job_id"}) == {
        "name": "one",
        "model": "gbt",
        "mode": "realistic",
        "hyper": {},
        "split_recipe": "host",
        "train_hosts": ("elliott-thinkpad",),
        "seed": 0,
        "n_resamples": 1000,
        "priority": 0,
        "max_attempts": 3,
        "needs": {
            "require_cuda": False,
            "prefer_cuda": False,
            "min_vram_gib": 0,
            "min_ram_gib": 4,
            "min_cores": 1,
            "allowed_hosts": (),
            "denied_hosts": (),
            "gpus": 1,
        },
        "timeout": None,
        "lease": None,
        "exclusive": False,
        "prefer_wait": 300,
        "dataset": None,
        "program": None,
    }


def test_the_fleets_defaults_are_for_jobs_that_do_not_say_otherwise():
    defaults = '[defaults]\nseed = 7\nmin_ram_gib = 8\nmin_cores = 2\nsplit_recipe = "time"\n'
    defaults += 'train_hosts = ["a"]\nn_resamples = 9\n'
    said = 'seed = 0\nmin_ram_gib = 0.5\nmin_cores = 1\nsplit_recipe = "sample"\ntrain_hosts = ["b"]\nn_resamples = 5\n'
    text = ONE.replace("[[jobs]]", defaults + "[[jobs]]") + f'[[jobs]]\nname = "two"\nmodel = "gbt"\n{said}'
    one, two = parse(text).jobs
    assert (one.seed, one.needs.min_ram_gib, one.needs.min_cores, one.split_recipe) == (7, 8, 2, "time")
    assert (one.train_hosts, one.n_resamples) == (("a",), 9)
    assert (two.seed, two.needs.min_ram_gib, two.needs.min_cores, two.split_recipe) == (0, 0.5, 1, "sample")
    assert (two.train_hosts, two.n_resamples) == (("b",), 5)


@pytest.mark.parametrize(
    ("keys", "arguments", "known"),
    [
        ("", ("gbt", "realistic", {}, "host", ["elliott-thinkpad"], 0), "572df2d2dc40ccee"),
        (
            'mode = "oracle"\nseed = 3\nsplit_recipe = "time"\ntrain_hosts = ["b", "a"]\n',
            ("gbt", "oracle", {}, "time", ["b", "a"], 3),
            "6f857c0cd22740df",
        ),
        (
            "hyper = { trees = 50, lr = 0.05 }\n",
            ("gbt", "realistic", {"trees": 50, "lr": 0.05}, "host", ["elliott-thinkpad"], 0),
            "f8ec7f86e0768ab9",
        ),
    ],
)
def test_known_ids(keys: str, arguments: tuple[Any, ...], known: str):
    (job,) = parse(ONE + keys).jobs
    assert job.job_id == independent_id(*arguments) == known


@given(
    hyper=st.fixed_dictionaries(
        {},
        optional={
            "trees": st.integers(1, 200),
            "lr": st.floats(0.001, 0.5),
        },
    ),
    seed=st.integers(0, 2**32 - 1),
    hosts=st.lists(st.sampled_from(["a", "ö", "with space", "日本"]), min_size=1, unique=True),
    mode=st.sampled_from(["realistic", "oracle"]),
    split=st.sampled_from(["host", "sample", "time"]),
)
def test_ids_are_what_another_program_would_compute(
    hyper: dict[str, Any], seed: int, hosts: list[str], mode: str, split: str
):
    table = "".join(f"{key} = {value!r}\n" for key, value in hyper.items())
    keys = f"mode = '{mode}'\nseed = {seed}\nsplit_recipe = '{split}'\ntrain_hosts = {hosts!r}\n[jobs.hyper]\n{table}"
    (job,) = parse(ONE + keys).jobs
    assert job.job_id == independent_id("gbt", mode, hyper, split, hosts, seed)


def test_scheduling_is_no_part_of_identity():
    changed = (
        "priority = 9\nrequire_cuda = true\nprefer_cuda = true\nmin_vram_gib = 8\nmin_ram_gib = 64\nmin_cores = 16\n"
        'allowed_hosts = ["a"]\ndenied_hosts = ["b"]\nn_resamples = 7\nmax_attempts = 1\n'
    )
    assert parse(ONE + changed).jobs[0].job_id == parse(ONE.replace("one", "renamed")).jobs[0].job_id


@pytest.mark.parametrize(
    "keys",
    ["seed = 1", 'mode = "oracle"', 'split_recipe = "time"', 'train_hosts = ["x"]', "hyper = { trees = 5 }"],
)
def test_everything_that_is_trained_is(keys: str):
    assert parse(ONE + keys).jobs[0].job_id != parse(ONE).jobs[0].job_id


def test_hyper_is_taken_as_written():
    """An explicit default is another id than none, and 1 another than 1.0: nothing is filled in or turned round."""
    ids = {
        parse(ONE.replace("gbt", "mlp") + f"hyper = {{ {hyper} }}\n").jobs[0].job_id
        for hyper in ("", "dropout = 0", "dropout = 0.0")
    }
    assert len(ids) == 3


def test_two_jobs_with_one_id_are_named_both():
    text = ONE + '[[jobs]]\nname = "two"\nmodel = "gbt"\npriority = 5\n'
    with pytest.raises(ManifestError) as error:
        parse(text, "m.toml")
    (problem,) = error.value.problems
    assert (problem.file, problem.line, problem.key) == ("m.toml", 6, "jobs[1].name")
    assert "'two' would train the same thing as 'one'" in problem.message
    assert "572df2d2dc40ccee" in problem.message


def test_a_name_may_be_used_twice():
    assert len(parse(ONE + '[[jobs]]\nname = "one"\nmodel = "gbt"\nseed = 1\n').jobs) == 2


def test_names_are_free_text():
    name = "größe — 100 % 'quoted' 🚲"
    assert parse(ONE.replace('"one"', json.dumps(name, ensure_ascii=False))).jobs[0].name == name


def test_host_policies():
    text = (
        ONE + '[hosts.a]\nallow_jobs = ["gbt", "mlp"]\ndeny_jobs = ["mlp"]\npriority = -3\n[hosts."b.lan"]\n'
    )
    hosts = parse(text).hosts
    assert hosts["a"].refuses("gbt") is None
    assert hosts["a"].refuses("mlp") == "deny_jobs = ['mlp']"
    assert hosts["a"].refuses("cnn") == "allow_jobs = ['gbt', 'mlp']"
    assert hosts["b.lan"].refuses("cnn") is None


def test_where_it_is_looked_for(tmp_path: Path):
    explicit = tmp_path / "x.toml"
    assert find_manifest(explicit) == explicit
    assert find_manifest() in (Path("/etc/fleet/training_manifest.toml"), Path("training_manifest.toml"))


def test_files_that_cannot_be_read(tmp_path: Path):
    def problem(path: Path) -> str:
        with pytest.raises(ManifestError) as error:
            load(path)
        return str(error.value)

    file = tmp_path / "m.toml"
    assert problem(file) == f"{file}: there is no such file; name one, or write training_manifest.toml here"
    file.write_bytes(b"# \xff\n")
    assert problem(file) == f"{file}: not UTF-8: byte 2 is 0xff"
    assert problem(tmp_path) == f"{tmp_path}: cannot be read: Is a directory"
    file.write_text(ONE)
    assert len(load(file).jobs) == 1
