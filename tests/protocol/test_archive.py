"""Unpacking takes exactly what packing writes, and nothing else: the rest of the world's archives are refused."""

from __future__ import annotations

import io
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from fleet_protocol.archive import (
    NotArchived,
    content_blocks,
    content_digest,
    content_size,
    unpack_archive,
    write_archive,
)

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
    ids=lambda members: "+".join(member.name for member in members),
)
def test_an_archive_that_is_not_ours_is_refused(tmp_path: Path, entries: tuple[tarfile.TarInfo, ...]) -> None:
    inside = tmp_path / "inside" / "here"
    with pytest.raises(NotArchived):
        unpack_archive(io.BytesIO(of(*entries)), inside)
    assert [path.name for path in tmp_path.iterdir()] == ["inside"]
    assert not [path for path in inside.rglob("*") if path.is_symlink()]


def test_an_archive_that_would_fill_the_disk_is_stopped_before_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written in its header is believed only as a reason to refuse: 400 MB of zeros pack to nothing."""
    whole = of(entry("a", size=4), entry("b", size=40_000))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage._replace(free=40_000))
    with pytest.raises(OSError, match="No space left"):
        unpack_archive(io.BytesIO(whole), tmp_path / "here")
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["a"]


def test_an_archive_of_too_many_files_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fleet_protocol.archive.MOST_FILES", 2)
    with pytest.raises(NotArchived, match="more than 2 files"):
        unpack_archive(io.BytesIO(of(entry("a"), entry("b"), entry("c"))), tmp_path / "here")


def test_a_chain_of_links_longer_than_any_path_writes_nothing(tmp_path: Path) -> None:
    """It led out of the folder past tarfile's own `data` filter."""
    deep = "d" * 90
    chain = [entry(f"{deep}/{step}", type=tarfile.SYMTYPE, linkname=deep) for step in "abc"]
    out = entry("z", type=tarfile.SYMTYPE, linkname="a/b/c" + "/.." * 30)
    with pytest.raises(NotArchived):
        unpack_archive(io.BytesIO(of(*chain, out, entry("z/out", size=3))), tmp_path / "here")
    assert not [*(tmp_path / "here").iterdir()]


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


@pytest.mark.parametrize("files", [FILES, {}, {"large": bytes(3_000_001)}])
def test_a_folder_is_what_tar_makes_of_it_from_any_offset_on(tmp_path: Path, files: dict[str, bytes]) -> None:
    source, archive = written(tmp_path / "source", files), io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w|", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in sorted(files.items()):
            tar.addfile(entry(name, size=len(data)), io.BytesIO(data))
    whole = archive.getvalue()
    assert packed(source) == whole
    assert content_size(source) == len(whole)
    for offset in (*range(0, min(len(whole), 4000), 97), 511, 512, 513, len(whole) - 1, len(whole)):
        assert b"".join(content_blocks(source, offset)) == whole[offset:]


def test_a_file_is_its_own_bytes_from_any_offset_on(tmp_path: Path) -> None:
    data = bytes(range(256)) * 9000
    (tmp_path / "file").write_bytes(data)
    assert content_size(tmp_path / "file") == len(data)
    for offset in (0, 1, 1 << 20, (1 << 20) + 1, len(data) - 1, len(data)):
        assert b"".join(content_blocks(tmp_path / "file", offset)) == data[offset:]


@pytest.mark.parametrize("now", [b"", b"shorter", b"longer than it was before"])
def test_a_file_that_changes_while_it_is_packed_is_told(tmp_path: Path, now: bytes) -> None:
    source = written(tmp_path / "source", {"a": b"1", "b": b"as it was before"})
    blocks = content_blocks(source)
    assert next(blocks)
    (source / "a").write_bytes(now)
    with pytest.raises(NotArchived, match="a changed while it was read"):
        b"".join(blocks)


def test_a_link_inside_is_packed_as_what_it_leads_to(tmp_path: Path) -> None:
    source = written(tmp_path / "source", {"step-5/model": b"1", "step-5/deep/state": b"2"})
    (source / "last.ckpt").symlink_to("step-5/model")
    (source / "latest").symlink_to(source / "step-5")
    (source / "step-5" / "deep" / "same").symlink_to("../../last.ckpt")
    (tmp_path / "elsewhere").symlink_to(source)
    unpack_archive(io.BytesIO(packed(tmp_path / "elsewhere")), tmp_path / "copy")
    inside = {"model": b"1", "deep/state": b"2", "deep/same": b"1"}
    plain = {f"{folder}/{name}": data for folder in ("step-5", "latest") for name, data in inside.items()}
    assert content_digest(tmp_path / "copy") == content_digest(
        written(tmp_path / "plain", {"last.ckpt": b"1", **plain})
    )
    assert content_digest(source) == content_digest(tmp_path / "copy")


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("/etc/passwd", "out of the folder"),
        ("../outside", "out of the folder"),
        ("nowhere", "nowhere"),
        ("link", "nowhere"),
        (".", "circle"),
        ("b", "circle"),
    ],
)
def test_a_link_out_nowhere_or_in_a_circle_is_no_content(tmp_path: Path, target: str, said: str) -> None:
    source = written(tmp_path / "source", {"a": b"1", "b/c": b"2"})
    (tmp_path / "outside").mkdir()
    if target == "b":
        (source / "b" / "back").symlink_to("../b")
    (source / "link").symlink_to(target)
    with pytest.raises(NotArchived, match=f"is a link .*{said}"):
        content_digest(source)
