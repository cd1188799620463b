"""The smartwatch set, converted once."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest

from fleet_trainer import watch
from fleet_trainer.data import load
from fleet_trainer.errors import DataWrong
from tests.trainer.synthetic import contents


def _is_installed() -> bool:
    try:
        importlib.metadata.distribution("seglearn")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


needs_seglearn = pytest.mark.skipif(not _is_installed(), reason=f"seglearn is missing; {watch.INSTALL}")


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("watch") / "new"
    assert watch.convert(folder).startswith("wrote 140 recordings of 10 people")
    return folder


@needs_seglearn
def test_the_set_is_what_was_published(converted: Path):
    dataset = load(converted, "oracle")
    assert dataset.channels == ("ax", "ay", "az", "wx", "wy", "wz")
    assert dataset.classes == ("PEN", "ABD", "FEL", "IR", "ER", "TRAP", "ROW")
    assert dataset.rate_hz == 50
    lengths = [len(recording.values) for recording in dataset.recordings]
    assert (len(lengths), sum(lengths), min(lengths), max(lengths)) == (140, 244_102, 947, 2_618)
    assert {recording.host for recording in dataset.recordings} == {f"subject-{n:02}" for n in range(1, 11)}
    assert dataset.recordings[0].name == "subject-01-ABD-left"
    assert load(converted, "realistic").channels == ("ax", "ay", "az")


@needs_seglearn
def test_a_second_time_there_is_nothing_to_do_and_a_broken_copy_is_made_anew(converted: Path):
    before = contents(converted)
    assert "already has the smartwatch set" in watch.convert(converted)
    (converted / "data.parquet").write_bytes(before["data.parquet"][:-100])
    assert watch.convert(converted).startswith("wrote")
    assert contents(converted) == before


def test_a_missing_package_is_named_with_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(watch, "PACKAGE", "seglearn-that-nobody-has")
    with pytest.raises(DataWrong, match=r"not installed; run `pip install --no-deps seglearn==1\.2\.5`"):
        watch.convert(tmp_path)


@needs_seglearn
def test_other_bytes_are_never_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    trap = tmp_path / "trap.npy"
    trap.write_bytes(b"not the published file")
    monkeypatch.setattr(watch, "MEMBER", str(trap))
    with pytest.raises(DataWrong, match=r"is not the file of seglearn 1\.2\.5"):
        watch.convert(tmp_path / "out")
