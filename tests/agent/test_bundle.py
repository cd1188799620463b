from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from backports.zstd import ZstdFile

from fleet_agent.bundle import make_bundle
from fleet_protocol.archive import NotArchived

EXPECTED = "7daf92cdf7ccf47051add433fd50a4b527247649bd0de0cfcfa5ca553ded8689"


def members(path: Path) -> list[tarfile.TarInfo]:
    with ZstdFile(path) as packed, tarfile.open(fileobj=packed, mode="r|") as archive:
        return archive.getmembers()


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    names = ["b/c.txt", "a.bin", "b.txt"]
    for folder, order, when, mode in (("one", names, 1, 0o600), ("two", names[::-1], 2_000_000_000, 0o755)):
        for name in order:
            file = tmp_path / folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(name * 1000)
            file.chmod(mode)
            os.utime(file, (when, when))
    one, two = (make_bundle(tmp_path / name, tmp_path / f"{name}.tar.zst") for name in ("one", "two"))
    assert one.path.read_bytes() == two.path.read_bytes()
    assert one.sha256 == hashlib.sha256(one.path.read_bytes()).hexdigest()
    assert one.size_bytes == one.path.stat().st_size


def test_entries_are_sorted_plain_files_without_an_owner_or_a_time(tmp_path: Path) -> None:
    (tmp_path / "out" / "empty").mkdir(parents=True)
    for name in ("z", "a"):
        (tmp_path / "out" / name).write_text(name)
    bundle = make_bundle(tmp_path / "out", tmp_path / "bundle")
    assert [
        (entry.name, entry.mode, entry.mtime, entry.uid, entry.uname) for entry in members(bundle.path)
    ] == [
        ("a", 0o644, 0, 0, ""),
        ("z", 0o644, 0, 0, ""),
    ]


def test_an_empty_output_is_a_bundle_too(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert members(make_bundle(tmp_path / "out", tmp_path / "bundle").path) == []


def test_its_bytes_are_fixed_for_ever(tmp_path: Path) -> None:
    """Fails when a library changes what the same artifact hashes to: then the pin must say so."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "model.txt").write_text("weights\n" * 100)
    assert make_bundle(tmp_path / "out", tmp_path / "bundle").sha256 == EXPECTED


@pytest.mark.parametrize(
    "make", [lambda p: p.symlink_to("/etc/passwd"), lambda p: p.symlink_to("/etc"), os.mkfifo]
)
def test_links_out_and_special_files_are_refused(tmp_path: Path, make: Callable[[Path], None]) -> None:
    (tmp_path / "out").mkdir()
    make(tmp_path / "out" / "odd")
    with pytest.raises(NotArchived, match=r"odd is a (link out|special file)"):
        make_bundle(tmp_path / "out", tmp_path / "bundle")


def test_a_name_that_the_format_cannot_hold_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "out" / ("d" * 200)
    folder.mkdir(parents=True)
    (folder / ("f" * 200)).touch()
    with pytest.raises(NotArchived, match="does not fit"):
        make_bundle(tmp_path / "out", tmp_path / "bundle")
