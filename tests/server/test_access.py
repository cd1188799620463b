"""Who may do what: every route and websocket for every role, and what is refused before a token is looked at."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fastapi import FastAPI
from websockets.exceptions import InvalidStatus

from fleet_protocol.local import ROLES, Role
from fleet_server.access import guard
from fleet_server.access.permissions import PERMISSIONS, PUBLIC
from fleet_server.access.tokens import open_tokens
from fleet_server.app import create_app
from fleet_server.settings import Settings
from tests.server.coordinator import Coordinator, refused

UUID = "00000000-0000-4000-8000-000000000000"
DOCUMENTATION = {"openapi", "swagger_ui_html", "swagger_ui_redirect"}


@dataclass(frozen=True)
class Door:
    """One way in."""

    name: str
    path: str
    method: str | None
    """None: a websocket."""

    @property
    def url(self) -> str:
        fillings = {"job_id": "0" * 16, "sha256": "0" * 64, "attempt": UUID, "ref": "nothing"}
        fillings |= {"join_id": "a" * 8, "token_id": "a" * 8}
        path = re.sub(r"{(\w+)(?::path)?}", lambda match: fillings[match[1]], self.path)
        return f"{path}?attempt={UUID}" if self.method in ("PUT", "HEAD") and "model" in path else path


def _flat(app: FastAPI) -> Iterator[object]:
    for route in app.routes:
        yield from getattr(getattr(route, "original_router", None), "routes", [route])


def _doors() -> list[Door]:
    found = []
    for route in _flat(create_app(Settings(data=Path("unused")))):
        path, name = getattr(route, "path", ""), getattr(route, "name", "")
        if path.startswith(("/v1", "/metrics")):
            methods = getattr(route, "methods", None)
            found += [Door(name, path, method) for method in methods or [None]]
    return found


DOORS = _doors()


def test_the_table_names_every_door_and_no_other():
    assert {door.name for door in DOORS} == PERMISSIONS.keys()
    assert len(DOORS) == len(PERMISSIONS)
    assert {door.name for door in DOORS if door.method is None} == {
        "follow_job_log",
        "follow_events",
        "worker_stream",
    }


def test_a_route_without_an_entry_cannot_be_added():
    app = FastAPI()
    app.router.route_class = guard.GuardedRoute

    async def forgotten() -> None: ...

    with pytest.raises(RuntimeError, match="no entry in the table"):
        app.get("/v1/forgotten")(forgotten)


def test_only_health_is_public_and_the_door_that_a_join_token_opens():
    assert {name for name, allowed in PERMISSIONS.items() if allowed is PUBLIC} == {"health", "enrol"}


def test_who_may_change_something():
    """Said a second time on purpose: a slip in the table must not pass unseen."""
    only = {role: {name for name, allowed in PERMISSIONS.items() if allowed == {role}} for role in ROLES}
    assert only["operator"] == {
        "cancel_job",
        "drain_worker",
        "resume_worker",
        "requeue_job",
        "accept_result",
        "reload_manifest",
        "prune",
        "revoke_worker",
        "make_join",
        "list_joins",
        "revoke_join",
        "make_token",
        "list_tokens",
        "revoke_token",
    }
    assert only["viewer"] == set()
    both = {name for name, allowed in PERMISSIONS.items() if allowed == {"operator", "agent"}}
    assert both == {"upload_blob", "blob_upload_state", "get_blob"}
    assert only["agent"] == {
        "hello", "replace_credential", "claim", "start", "heartbeat", "complete", "fail", "release", "upload_artifact",
        "artifact_upload_state", "save_checkpoint", "append_log", "log_state", "append_metrics", "worker_stream",
    }  # fmt: skip


def test_an_operator_may_whatever_a_viewer_may_and_an_agent_no_reading():
    for name, allowed in PERMISSIONS.items():
        assert "viewer" not in allowed or "operator" in allowed, name
        assert "agent" not in allowed or "viewer" not in allowed, name


async def _knock(fleet: Coordinator, door: Door, role: Role | None) -> int:
    if door.method is not None:
        return (await fleet.http(role).request(door.method, door.url)).status_code
    try:
        async with fleet.websocket(door.url, role):
            return 101
    except InvalidStatus as error:
        told = error.response.headers["content-type"] == "application/problem+json"
        return error.response.status_code if told else 0


@pytest.mark.parametrize("role", [None, *ROLES])
async def test_every_door_asks_for_its_role_before_it_looks_at_anything_else(
    fleet: Coordinator, role: Role | None
):
    for door in DOORS:
        allowed = PERMISSIONS[door.name]
        status = await _knock(fleet, door, role)
        if allowed is PUBLIC or role in allowed:
            assert status not in (401, 403), door
        else:
            assert status == (401 if role is None else 403), door


async def test_no_token_and_a_wrong_one(fleet: Coordinator):
    http = fleet.http(None)
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic d3Jvbmc="}):
        answer = await http.get("/v1/jobs", headers=headers)
        await refused(answer, 401, "not_authenticated")
        assert answer.headers["www-authenticate"] == "Bearer"
        assert "wrong" not in answer.text
    problem = await refused(await fleet.http("agent").get("/v1/jobs"), 403, "not_permitted")
    assert problem["detail"] == "This agent token may not do this; it takes one of: operator, viewer."


async def test_the_other_header_for_operators(fleet: Coordinator):
    token = fleet.headers("operator")["Authorization"].removeprefix("Bearer ")
    assert (await fleet.http(None).get("/v1/jobs", headers={"X-Operator-Token": token})).status_code == 200


async def test_a_body_is_not_read_before_the_token_was_looked_at(fleet: Coordinator):
    answer = await fleet.http("viewer").post("/v1/manifest/reload", content=b"{" * 1000)
    await refused(answer, 403, "not_permitted")


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "[::", ""]
)
async def test_a_foreign_host_is_refused_everywhere(fleet: Coordinator, host: str):
    for path in ("/v1/health", "/v1/jobs", "/docs", "/nothing"):
        await refused(await fleet.http().get(path, headers={"Host": host}), 421, "wrong_host")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:8490", "[::1]:8490"])
async def test_every_name_of_loopback_is_fine(fleet: Coordinator, host: str):
    assert (await fleet.http().get("/v1/jobs", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1"])
async def test_a_foreign_origin_is_refused_with_any_method_and_on_websockets(fleet: Coordinator, origin: str):
    for method in ("GET", "POST", "OPTIONS"):
        answer = await fleet.http().request(method, "/v1/jobs", headers={"Origin": origin})
        await refused(answer, 403, "wrong_origin")
    with pytest.raises(InvalidStatus) as error:
        async with fleet.websocket("/v1/events", Origin=origin):
            pass
    assert error.value.response.status_code == 403
    assert b"wrong_origin" in error.value.response.body


async def test_its_own_origin_is_fine(fleet: Coordinator):
    assert (await fleet.http().get("/v1/jobs", headers={"Origin": fleet.url})).status_code == 200
    async with fleet.websocket("/v1/events", Origin=fleet.url) as events:
        assert "snapshot" in str(await events.recv())


async def test_the_documentation_is_public_and_needs_no_internet(fleet: Coordinator):
    http = fleet.http(None)
    page = await http.get("/docs")
    assert page.status_code == 200
    links = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert links
    for link in links:
        assert link.startswith("/"), link
        assert (await http.get(link)).status_code == 200, link
    described = (await http.get("/openapi.json")).json()
    ids = [entry["operationId"] for path in described["paths"].values() for entry in path.values()]
    assert set(ids) <= PERMISSIONS.keys()
    assert len(ids) == len(set(ids))


def test_tokens_are_kept_and_private(tmp_path):
    folder = tmp_path / "tokens"
    tokens = open_tokens(folder)
    texts = {role: (folder / role).read_text().strip() for role in ROLES}
    assert len(set(texts.values())) == 3
    assert {role: tokens.role_of(text) for role, text in texts.items()} == {role: role for role in ROLES}
    assert tokens.role_of("") is None
    assert (folder.stat().st_mode & 0o777, {(folder / r).stat().st_mode & 0o777 for r in ROLES}) == (
        0o700,
        {0o600},
    )
    (folder / "viewer").chmod(0o644)
    (folder / "agent").write_text("")
    again = open_tokens(folder)
    assert again.role_of(texts["operator"]) == "operator"
    assert again.role_of(texts["agent"]) is None, "an empty file is no token but the lack of one"
    assert (folder / "viewer").stat().st_mode & 0o777 == 0o600
