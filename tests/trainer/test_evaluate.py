"""An artifact tells its own figures again, tells classes of other data, and is refused where it is not what it says."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from backports import zstd

from fleet_agent.bundle import make_bundle
from fleet_trainer.bundle import LIMITS, read_bundle
from fleet_trainer.calibration import calibration
from fleet_trainer.errors import ArtifactWrong, DataWrong, SpecRefused
from fleet_trainer.evaluate import compare, predict, reproduce
from fleet_trainer.job import Job
from tests.trainer.synthetic import (
    EVERY_MODEL,
    TINY,
    contents,
    job_spec,
    needs_torch,
    train_here,
    write_dataset,
)

HERE = Job({})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Callable[[str], Path]:
    """Output folders by model, each trained once."""
    root, found = tmp_path_factory.mktemp("trained"), dict[str, Path]()

    def folder(model: str) -> Path:
        if model not in found:
            found[model] = train_here(root / model, data, job_spec(model))
        return found[model]

    return folder


def packed(
    path: Path, *entries: tuple[str, bytes], size: int | None = None, kind: bytes = tarfile.REGTYPE
) -> Path:
    """A bundle of these files, the last one of the size and kind that its header claims."""
    plain = b""
    for number, (name, content) in enumerate(entries, 1):
        entry = tarfile.TarInfo(name)
        last = number == len(entries)
        entry.size = len(content) if size is None or not last else size
        entry.type = kind if last else tarfile.REGTYPE
        plain += entry.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512)
    path.write_bytes(zstd.compress(plain + bytes(1024)))
    return path


@pytest.mark.parametrize("model", EVERY_MODEL)
def test_an_artifact_alone_tells_the_same_figures(tmp_path: Path, data: Path, trained, model):
    out = trained(model)
    bundle = make_bundle(out, tmp_path / "bundle.tar.zst").path
    for path in (bundle, out):
        found = reproduce(read_bundle(path), HERE, data)
        assert found.differences == []
        assert found.evaluation == json.loads((out / "metrics.json").read_text())


@pytest.mark.parametrize("recipe", ["sample", "time"])
def test_the_split_is_that_of_the_training(tmp_path: Path, data: Path, recipe):
    out = train_here(tmp_path, data, job_spec(split_recipe=recipe, mode="oracle"))
    assert reproduce(read_bundle(out), HERE, data).differences == []


@needs_torch
def test_an_ensemble_is_put_together_again(tmp_path: Path, data: Path):
    out = train_here(tmp_path, data, job_spec("lstm", hyper=TINY["lstm"] | {"members": 2}))
    assert reproduce(read_bundle(out), HERE, data).differences == []


def test_calibration_follows_from_the_predictions_too(trained):
    predictions = pl.read_parquet(trained("gbt") / "predictions.parquet")
    told = predictions.select("^p_.*$")
    classes = [name.removeprefix("p_") for name in told.columns]
    actual = np.array([classes.index(label) for label in predictions["label"]])
    written = json.loads((trained("gbt") / "metrics.json").read_text())["calibration"]
    assert calibration(actual, told.to_numpy()) == written


def test_figures_differ_by_name_and_last_bits_do_not_count():
    there = {"hosts": {"ann": {"accuracy": 0.5, "windows": 4}}, "confusion": [[1, 2], [3, 4]]}
    here = {"hosts": {"ann": {"accuracy": 0.500001, "windows": 5}}, "confusion": [[1, 2], [4, 4]]}
    told = list(compare(here | {"calibration": {"ece": 0.1}}, there))
    assert told == [("confusion[1][0]", 4, 3), ("hosts.ann.windows", 5, 4)]
    assert list(compare({"calibration": {"ece": 0.1}}, {"calibration": {"ece": 0.2}}))
    assert list(compare({}, [])) == [("", {}, [])]


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """The same recordings without labels, their channels in another order and one more."""
    folder = write_dataset(tmp_path_factory.mktemp("unlabelled"), privileged=["more"], vectors=[])
    frame = pl.read_parquet(folder / "data.parquet")
    columns = ["clock", "more", "t", "noise", "wave", "recording", "host"]
    frame.with_columns(more=pl.lit(1.0)).select(columns).write_parquet(folder / "data.parquet")
    return folder


@pytest.mark.parametrize("model", ["gbt", pytest.param("cnn", marks=needs_torch)])
def test_unlabelled_data_gets_the_predictions_of_the_training(tmp_path: Path, trained, unlabelled, model):
    out = tmp_path / "told.parquet"
    count = predict(read_bundle(trained(model)), HERE, unlabelled, out)
    told = pl.read_parquet(out)
    assert len(told) == count
    assert "label" not in told.columns
    assert list(tmp_path.iterdir()) == [out]
    tested = pl.read_parquet(trained(model) / "predictions.parquet").drop("label")
    again = told.filter(pl.col("host").is_in(tested["host"].unique().to_list()))
    assert again.drop("^p_.*$").equals(tested.drop("^p_.*$"))
    assert np.allclose(again.select("^p_.*$").to_numpy(), tested.select("^p_.*$").to_numpy(), atol=1e-6)


def changed(files: Mapping[str, bytes], data: Mapping[str, object], **changes: object) -> bytes:
    """job.json with other values at its top and in what it says of the data."""
    told = json.loads(files["job.json"])
    return json.dumps(told | changes | {"data": told["data"] | data}).encode()


NO_ARTIFACT = [
    pytest.param(lambda whole, files: whole[:-200], "is no whole bundle", id="cut off"),
    pytest.param(lambda whole, files: b"PK" + whole, "is no whole bundle", id="another format"),
    pytest.param(lambda whole, files: zstd.compress(b"x" * 700), "is no whole bundle", id="no archive in it"),
]


@pytest.mark.parametrize(("spoil", "words"), NO_ARTIFACT)
def test_a_spoiled_bundle_is_refused(tmp_path: Path, trained, spoil, words):
    bundle = make_bundle(trained("gbt"), tmp_path / "bundle.tar.zst").path
    bundle.write_bytes(spoil(bundle.read_bytes(), contents(trained("gbt"))))
    with pytest.raises(ArtifactWrong, match=words):
        read_bundle(bundle)


@pytest.mark.parametrize(
    ("names", "claims", "words"),
    [
        (["train.log"], {}, "holds 'train.log'"),
        (["../job.json"], {}, r"holds '\.\./job\.json'"),
        (["job.json", "job.json"], {}, "holds 'job.json'"),
        (["job.json"], {"kind": tarfile.SYMTYPE}, "holds 'job.json'"),
        (["job.json"], {"kind": tarfile.XHDTYPE}, "holds 'job.json'"),
        (["model.txt"], {"size": LIMITS["model.txt"] + 1}, "model.txt has 4,294,967,297 bytes; at most"),
        (["model.txt"], {"size": -1}, "model.txt has -1 bytes"),
        (["model.txt"], {"size": 1 << 20}, "is no whole bundle"),
        (["metrics.json"], {}, "has no job.json"),
    ],
)
def test_only_the_files_of_an_artifact_are_taken(tmp_path: Path, names, claims, words):
    with pytest.raises(ArtifactWrong, match=words):
        read_bundle(packed(tmp_path / "bundle.tar.zst", *((name, b"{}") for name in names), **claims))


@pytest.mark.parametrize(
    ("data_changes", "changes", "words"),
    [
        ({}, {"model": "cmn"}, r"model cmn is not built in; did you mean cnn\?"),
        ({}, {"hyper": {"tress": 1}}, r"hyper\.tress is not a setting of gbt"),
        ({}, {"mode": "odd"}, "job.json: mode: input should be"),
        ({}, {"seed": None}, "job.json: seed: input should be"),
        ({"channels": []}, {}, "job.json: data.channels: list should have at least 1"),
        ({"classes": ["a", "a"]}, {}, "comes twice"),
        ({"vectors": [["wave", "else"]]}, {}, "vectors name a channel that there is not"),
    ],
)
def test_a_job_that_no_trainer_wrote_is_refused(tmp_path: Path, trained, data_changes, changes, words):
    files = contents(trained("gbt"))
    (tmp_path / "job.json").write_bytes(changed(files, data_changes, **changes))
    with pytest.raises(SpecRefused, match=words):
        _ = read_bundle(tmp_path).hyper


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (Path("exploded"),)


MODELS_SPOILED = [
    ("gbt", "model.txt", lambda found: found[: len(found) // 2], "is not the model of job.json"),
    ("gbt", "model.txt", lambda found: b"\xff", "is not the model of job.json"),
    ("gbt", "model.txt", lambda found: found[: found.index(b"end of trees")], "it is cut off"),
    ("gbt", "model.txt", lambda found: found.replace(b"left_child=-1", b"left_child=-9"), "leads nowhere"),
    ("gbt", "model.txt", lambda found: found.replace(b"decision_type=2", b"decision_type=x"), "could not"),
    ("gbt", "model.txt", None, "has no model.txt"),
    ("gbt", "metrics.json", lambda found: b"{", "metrics.json is not JSON"),
    *(
        pytest.param("cnn", "model.safetensors", spoil, words, marks=needs_torch)
        for spoil, words in [
            (lambda found: pickle.dumps(Bomb()), "is no safetensors file"),
            (lambda found: found[:-4], "is no safetensors file"),
            (
                lambda found: found.replace(b"members.0", b"members.1"),
                "is not what job.json describes: Missing",
            ),
        ]
    ),
]


@pytest.mark.parametrize(("model", "name", "spoil", "words"), MODELS_SPOILED)
def test_a_spoiled_model_is_refused(
    tmp_path: Path, data: Path, trained, monkeypatch, model, name, spoil, words
):
    monkeypatch.chdir(tmp_path)
    for other, content in contents(trained(model)).items():
        if other != name or spoil:
            (tmp_path / other).write_bytes(spoil(content) if other == name else content)
    with pytest.raises(ArtifactWrong, match=words):
        reproduce(read_bundle(tmp_path), HERE, data)
    assert not Path("exploded").exists()


@pytest.mark.parametrize("model", ["gbt", pytest.param("mlp", marks=needs_torch)])
def test_a_model_of_other_channels_is_refused(tmp_path: Path, trained, unlabelled, model):
    files = contents(trained(model))
    files["job.json"] = changed(files, {"channels": ["wave", "noise"]})
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ArtifactWrong, match=r"job\.json describes"):
        predict(read_bundle(tmp_path), HERE, unlabelled, tmp_path / "told")


@pytest.mark.parametrize(
    ("info", "lost", "words"),
    [
        ({"rate_hz": 20.0}, [], "20.0 samples a second, the model was trained on 10.0"),
        ({}, ["noise"], "has no channel noise in realistic mode, which the model was trained on"),
        ({}, ["host"], "has no column host; it needs host, recording, t and"),
    ],
)
def test_data_unlike_that_of_the_training_is_refused(tmp_path: Path, trained, info, lost, words):
    folder = write_dataset(tmp_path / "data", **info)
    frame = pl.read_parquet(folder / "data.parquet").drop(lost)
    frame.write_parquet(folder / "data.parquet")
    with pytest.raises(DataWrong, match=words):
        predict(read_bundle(trained("gbt")), HERE, folder, tmp_path / "told")
    with pytest.raises(DataWrong, match="is not the data set of the job"):
        reproduce(read_bundle(trained("gbt")), HERE, folder)


def test_the_command_tells_figures_by_its_exit_code(tmp_path: Path, data: Path, trained):
    for name, content in contents(trained("gbt")).items():
        (tmp_path / name).write_bytes(content)
    told = json.loads((tmp_path / "metrics.json").read_text())
    told["confusion"][0][0] += 1
    (tmp_path / "metrics.json").write_text(json.dumps(told))
    (tmp_path / "job.json").write_text(
        (tmp_path / "job.json").read_text().replace('"trainer": "', '"trainer": "0.')
    )
    command = [
        sys.executable,
        "-m",
        "fleet_trainer",
        "evaluate",
        str(tmp_path),
        "--data",
        str(data),
        "--json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    answer = json.loads(done.stdout)
    assert answer["agrees"] is False
    assert [one["figure"] for one in answer["differences"]] == ["confusion[0][0]"]
    assert answer["evaluation"] == json.loads((trained("gbt") / "metrics.json").read_text())
    assert "of the trainer made this artifact" in done.stderr
