"""Unpacking takes exactly what packing writes, and nothing else: the rest of the world's archives are refused."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from fleet_protocol.archive import NotArchived, content_digest, unpack_archive, write_archive

FILES = {
    "a": b"",
    "b/c.bin": bytes(range(256)) * 8,
    "b/d": b"x" * 512,
    "é\n ü": b"1",
    "z" * 90 + "/" + "y" * 90: b"2",
}
Change = Callable[[tarfile.TarInfo], object]


def written(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    folder.mkdir(exist_ok=True)
    return folder


def packed(folder: Path) -> bytes:
    archive = io.BytesIO()
    write_archive(folder, archive)
    return archive.getvalue()


def entry(name: str, **fields: object) -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.mode = 0o644
    for field, value in fields.items():
        setattr(found, field, value)
    return found


def of(*entries: tarfile.TarInfo) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for one in entries:
            tar.addfile(one, io.BytesIO(b"x" * one.size))
    return archive.getvalue()


@pytest.mark.parametrize("files", [FILES, {}])
def test_what_was_packed_comes_out_again_with_the_same_digest(
    tmp_path: Path, files: dict[str, bytes]
) -> None:
    source = written(tmp_path / "source", files)
    unpack_archive(io.BytesIO(packed(source)), tmp_path / "copy")
    found = {
        p.relative_to(tmp_path / "copy").as_posix(): p for p in (tmp_path / "copy").rglob("*") if p.is_file()
    }
    assert {name: path.read_bytes() for name, path in found.items()} == files
    assert content_digest(tmp_path / "copy") == content_digest(source)


@pytest.mark.parametrize(
    "entries",
    [
        (entry("../out"),),
        (entry("a/../../out"),),
        (entry("/tmp/out"),),
        (entry("./a"),),
        (entry("a//b"),),
        (entry("link", type=tarfile.SYMTYPE, linkname="/etc/passwd"),),
        (entry("link", type=tarfile.LNKTYPE, linkname="/etc/passwd"),),
        (entry("folder", type=tarfile.DIRTYPE),),
        (entry("device", type=tarfile.CHRTYPE),),
        (entry("sparse", type=tarfile.GNUTYPE_SPARSE),),
        (entry("setuid", mode=0o4755),),
        (entry("owned", uname="root"),),
        (entry("dated", mtime=1),),
        (entry("b"), entry("a")),
        (entry("a"), entry("a")),
        (entry("a"), entry("a/b")),
    ],
    ids=str,
)
def test_an_archive_that_is_not_ours_is_refused(tmp_path: Path, entries: tuple[tarfile.TarInfo, ...]) -> None:
    inside = tmp_path / "inside" / "here"
    with pytest.raises(NotArchived):
        unpack_archive(io.BytesIO(of(*entries)), inside)
    assert [path.name for path in tmp_path.iterdir()] == ["inside"]
    assert not [path for path in inside.rglob("*") if path.is_symlink()]


def test_a_link_that_was_there_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "a").symlink_to(tmp_path / "out")
    with pytest.raises(NotArchived, match="cannot be unpacked"):
        unpack_archive(io.BytesIO(of(entry("a", size=3))), tmp_path / "here")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: data[:700], "cut off"),
        (lambda data: data[:512], "cut off"),
        (lambda data: b"", "cut off"),
        (lambda data: b"PK\x03\x04" + data, "no archive"),
        (lambda data: b"x" * 2000, "no archive"),
        (lambda data: data + b"more", "follows"),
        (lambda data: data + bytes(20_000), "follows"),
        (lambda data: data[:516] + b"\1" + data[517:], "hidden"),
    ],
)
def test_a_damaged_archive_is_refused(tmp_path: Path, damage: Callable[[bytes], bytes], words: str) -> None:
    whole = of(entry("a", size=4))
    with pytest.raises(NotArchived, match=words):
        unpack_archive(io.BytesIO(damage(whole)), tmp_path / "here")


def test_a_full_disk_is_not_mistaken_for_a_bad_archive(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        unpack_archive(io.BytesIO(of(entry("a"))), tmp_path / "file" / "below")
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]
