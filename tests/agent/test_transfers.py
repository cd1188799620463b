from __future__ import annotations

import hashlib
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fleet_agent.bundle import Bundle, make_bundle
from fleet_agent.transfers import download, upload
from fleet_agent.uplink import Refused, Unreachable, Uplink
from fleet_protocol.errors import Code
from fleet_protocol.ids import Sha256, new_attempt_id
from tests.agent.coordinator import TOKEN, Coordinator

BLOB = random.Random(2).randbytes(1_000_000)
SHA = Sha256(hashlib.sha256(BLOB).hexdigest())


@pytest.fixture
async def uplink(coordinator: Coordinator) -> AsyncIterator[Uplink]:
    made = Uplink(coordinator.url, lambda: TOKEN, retry_ceiling=0.05)
    yield made
    await made.close()


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "weights").write_bytes(random.Random(1).randbytes(1_000_000))
    return make_bundle(tmp_path / "out", tmp_path / "bundle")


def place(bundle: Bundle) -> str:
    return f"/v1/model/{bundle.sha256}?attempt={new_attempt_id()}"


async def test_an_upload_goes_on_where_it_was_cut(
    uplink: Uplink, coordinator: Coordinator, bundle: Bundle
) -> None:
    coordinator.partial[bundle.sha256] = bundle.path.read_bytes()[:300_000]
    await upload(uplink, bundle, place(bundle))
    assert coordinator.artifacts[bundle.sha256] == bundle.path.read_bytes()


async def test_what_is_there_is_not_sent_again(
    uplink: Uplink, coordinator: Coordinator, bundle: Bundle
) -> None:
    coordinator.artifacts[bundle.sha256] = b"there"
    bundle.path.unlink()
    await upload(uplink, bundle, place(bundle))


async def test_damaged_bytes_are_refused(uplink: Uplink, coordinator: Coordinator, bundle: Bundle) -> None:
    coordinator.partial[bundle.sha256] = b"other bytes"
    with pytest.raises(Refused) as refusal:
        await upload(uplink, bundle, place(bundle))
    assert refusal.value.problem.code == Code.DIGEST_MISMATCH


class Receiver:
    """Downloads into one file and keeps what it was told."""

    def __init__(self, uplink: Uplink, target: Path) -> None:
        self.uplink = uplink
        self.target = target
        self.expected: list[int] = []
        self.told: list[tuple[int, int]] = []

    async def get(self, sha256: Sha256 = SHA) -> None:
        await download(self.uplink, sha256, self.target, self.expect, lambda *told: self.told.append(told))

    async def expect(self, total: int) -> None:
        assert not self.told
        self.expected.append(total)


@pytest.fixture
def receiver(uplink: Uplink, coordinator: Coordinator, tmp_path: Path) -> Receiver:
    coordinator.blobs[SHA] = BLOB
    return Receiver(uplink, tmp_path / "part")


async def test_a_download_says_how_far_it_is(receiver: Receiver) -> None:
    await receiver.get()
    assert receiver.target.read_bytes() == BLOB
    assert receiver.expected == [len(BLOB)]
    assert receiver.told[-1] == (len(BLOB), len(BLOB))


async def test_a_download_goes_on_where_it_was_cut(receiver: Receiver, coordinator: Coordinator) -> None:
    coordinator.cut_blob_at = 700_000
    with pytest.raises(Unreachable):
        await receiver.get()
    kept = receiver.target.stat().st_size
    assert 0 < kept <= 700_000
    receiver.told.clear()
    await receiver.get()
    assert receiver.target.read_bytes() == BLOB
    assert coordinator.blob_ranges == [None, f"bytes={kept}-"]
    assert receiver.expected == [len(BLOB)] * 2
    assert receiver.told[0][0] > kept


async def test_a_download_begins_anew_where_ranges_are_not_known(
    receiver: Receiver, coordinator: Coordinator
) -> None:
    coordinator.knows_ranges = False
    receiver.target.write_bytes(b"x" * 10)
    await receiver.get()
    assert receiver.target.read_bytes() == BLOB


async def test_nothing_more_is_asked_of_what_is_whole(receiver: Receiver) -> None:
    receiver.target.write_bytes(BLOB)
    await receiver.get()
    assert not receiver.told
    assert not receiver.expected


async def test_a_blob_that_is_not_there_is_a_refusal(receiver: Receiver) -> None:
    with pytest.raises(Refused):
        await receiver.get(Sha256("0" * 64))
    assert not receiver.target.exists()
