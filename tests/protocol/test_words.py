"""The small words that both ends rely on: times, frames, bounds, states, and where tokens are found."""

from __future__ import annotations

import json
import struct
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, ValidationError

from fleet_protocol.capability import Capability, Gpu
from fleet_protocol.ids import AttemptId, new_attempt_id
from fleet_protocol.local import LocalServer, find_token, is_loopback, note_file, write_note
from fleet_protocol.logs import MAX_CHUNK_BYTES, Ack, Stop, data_frame, from_agent, parse_data_frame, to_agent
from fleet_protocol.states import TRANSITIONS, AttemptStatus, JobStatus
from fleet_protocol.wire import Time, rfc3339
from fleet_protocol.workers import ClaimRequest, FailRequest

TIME: TypeAdapter[datetime] = TypeAdapter(Time)


def test_times_are_rfc_3339_in_utc_with_milliseconds():
    noon = datetime(2026, 1, 2, 12, 0, 0, 123456)
    assert rfc3339(noon) == rfc3339(noon.replace(tzinfo=UTC)) == "2026-01-02T12:00:00.123Z"
    assert rfc3339(noon.replace(tzinfo=timezone(timedelta(hours=2)))) == "2026-01-02T10:00:00.123Z"
    assert rfc3339(datetime(2026, 1, 2, tzinfo=UTC)) == "2026-01-02T00:00:00.000Z"


@given(
    st.datetimes(
        min_value=datetime(1970, 1, 1), timezones=st.sampled_from([UTC, timezone(timedelta(hours=-9))])
    )
)
def test_a_time_comes_back_to_the_millisecond(moment: datetime):
    text = TIME.dump_json(moment)
    back = TIME.validate_json(text)
    assert back.utcoffset() == timedelta(0)
    assert timedelta(0) <= moment - back < timedelta(milliseconds=1)
    assert TIME.dump_json(back) == text


@given(st.uuids(), st.integers(0, 2**64 - 1), st.binary(max_size=300))
def test_a_frame_comes_back(attempt: UUID, offset: int, data: bytes):
    frame = data_frame(AttemptId(str(attempt)), offset, data)
    assert frame[:16] == attempt.bytes
    assert frame[16:24] == struct.pack(">Q", offset)
    assert parse_data_frame(frame) == (str(attempt), offset, data)


def test_frames_of_the_wrong_size():
    attempt = new_attempt_id()
    assert parse_data_frame(data_frame(attempt, 0, b"x" * MAX_CHUNK_BYTES))[1] == 0
    for frame in (b"", b"x" * 23, data_frame(attempt, 0, b"x" * (MAX_CHUNK_BYTES + 1))):
        with pytest.raises(ValueError, match="a log frame has 24 to"):
            parse_data_frame(frame)


def test_words_are_told_apart_by_their_type():
    attempt = new_attempt_id()
    for word in (Ack(attempt=attempt, durable=5), Stop(attempt=attempt, why="x")):
        assert to_agent.validate_json(word.model_dump_json()) == word
    with pytest.raises(ValidationError):
        from_agent.validate_json(json.dumps({"type": "stop", "attempt": attempt, "why": "x"}))


def test_what_is_sent_is_strict_and_what_is_received_tolerates_newer_fields():
    ids = {"worker": str(uuid4()), "claim_id": str(uuid4())}
    with pytest.raises(ValidationError):
        ClaimRequest.model_validate({**ids, "newer": 1})
    assert Ack.model_validate({"attempt": str(uuid4()), "durable": 1, "newer": 1}).durable == 1


def _accepts(model: type[BaseModel], **values: object) -> bool:
    try:
        model.model_validate(values)
    except ValidationError:
        return False
    return True


def test_bounds_of_requests():
    ids = {"worker": str(uuid4()), "attempt": str(uuid4()), "kind": "error"}
    assert _accepts(FailRequest, **ids, reason="x" * 2000, tail="x" * 16_384, exit_code=-9, log_bytes=2**53)
    assert not _accepts(FailRequest, **ids, reason="x" * 2001)
    assert not _accepts(FailRequest, **ids, reason="", tail="x" * 16_385)
    assert not _accepts(FailRequest, **ids, reason="", log_bytes=-1)
    assert not _accepts(FailRequest, **ids, reason="", log_bytes=2**53 + 1)
    assert not _accepts(FailRequest, **ids, reason="", exit_code=2**63)
    assert not _accepts(FailRequest, **{**ids, "worker": ids["worker"].upper() + "x"}, reason="")
    claim = {"worker": str(uuid4()), "claim_id": str(uuid4())}
    assert [_accepts(ClaimRequest, **claim, wait=wait) for wait in (0, 30, -1, 31, float("nan"))] == [
        True, True, False, False, False,
    ]  # fmt: skip


def test_capability_counts_the_largest_cuda_card_only():
    gpus = [("cuda", 8), ("cuda", 24), ("mps", 64), ("rocm", 48)]
    has = Capability(
        hostname="box",
        os="Linux",
        cores=1,
        ram_gib=1,
        models=(),
        gpus=tuple(
            Gpu.model_validate({"kind": kind, "name": "card", "vram_gib": vram}) for kind, vram in gpus
        ),
    )
    assert (has.vram_gib, len(has.cuda_gpus)) == (24, 2)
    assert has.model_copy(update={"gpus": ()}).vram_gib == 0


def test_the_outline_of_the_state_machine():
    assert TRANSITIONS.keys() == set(JobStatus)
    assert TRANSITIONS[JobStatus.COMPLETED] == {JobStatus.PENDING}, "an operator says --again"
    for status, following in TRANSITIONS.items():
        assert status not in following
        if status.is_terminal:
            assert following <= {JobStatus.PENDING, JobStatus.COMPLETED}, "only an operator's word leads out"
        assert status.is_active + status.is_terminal + (status is JobStatus.PENDING) == 1
    assert JobStatus.RUNNING not in TRANSITIONS[JobStatus.PENDING], "nothing starts but from a claim"
    assert {status for status in AttemptStatus if status.is_open} == {"claimed", "running"}


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.2", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("", False),
        ("nonsense", False),
    ],
)
def test_loopback(host: str, expected: bool):
    assert is_loopback(host) is expected


@pytest.fixture
def noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalServer:
    monkeypatch.setenv("FLEET_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.delenv("FLEET_TOKEN", raising=False)
    server = LocalServer(8490, tmp_path / "data")
    server.token_file("viewer").parent.mkdir(parents=True)
    server.token_file("viewer").write_text("look\n")
    server.token_file("operator").write_text("act\n")
    write_note(server)
    return server


def test_tokens_are_found_by_the_port(noted: LocalServer):
    assert find_token("http://127.0.0.1:8490", "viewer") == "look"
    assert find_token("http://localhost:8490/v1/jobs", "operator") == "act"
    assert find_token("http://[::1]:8490", "viewer") == "look"
    assert find_token("http://127.0.0.1:8490", "agent") is None, "no such file"
    assert find_token("http://127.0.0.1:8491", "viewer") is None, "nobody noted that port"
    assert find_token("http://192.168.1.5:8490", "viewer") is None, "never sent to another machine"
    assert note_file(8490).stat().st_mode & 0o077 == 0


def test_the_environment_wins(noted: LocalServer):
    assert find_token("http://example.org", "viewer", {"FLEET_TOKEN": " given\n"}) == "given"
    assert find_token("http://127.0.0.1:8490", "viewer", {"FLEET_TOKEN": ""}) == "look"


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"port": "x", "data": "y"}', "null"])
def test_a_note_that_makes_no_sense_is_none(noted: LocalServer, text: str):
    note_file(8490).write_text(text)
    assert find_token("http://127.0.0.1:8490", "viewer") is None


def test_a_newer_coordinator_on_the_port_replaces_the_note(noted: LocalServer, tmp_path: Path):
    other = LocalServer(8490, tmp_path / "other")
    other.token_file("viewer").parent.mkdir(parents=True)
    other.token_file("viewer").write_text("new\n")
    write_note(other)
    assert find_token("http://127.0.0.1:8490", "viewer") == "new"
    assert [path.name for path in note_file(8490).parent.iterdir()] == ["8490.json"], "no draft stays behind"
