"""Behind a proxy that speaks TLS: its name is let in, no other, and nothing that it passes on is believed."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from pydantic import ValidationError
from websockets.asyncio.client import connect

from fleet_server.settings import Settings
from tests.architecture.source import ROOT
from tests.server.coordinator import Coordinator, digest, refused, running

PUBLIC = "https://fleet.lab.example"


@pytest.mark.parametrize("url", ["http://fleet.lab.example", "", "https://", "fleet.lab.example"])
def test_its_address_is_a_safe_one(url):
    with pytest.raises(ValidationError, match="it is https://HOST"):
        Settings(public_url=url)


async def test_its_name_is_let_in_and_no_other(data, clock):
    async with running(data, clock, public_url=PUBLIC) as fleet:
        http = fleet.http()
        assert (await http.get("/v1/jobs", headers={"Host": "fleet.lab.example"})).status_code == 200
        for host in ("evil.example", "fleet.lab.example.evil.example", "lab.example"):
            await refused(await http.get("/v1/jobs", headers={"Host": host}), 421, "wrong_host")
        ours = {"Host": "fleet.lab.example", "Origin": PUBLIC}
        assert (await http.get("/v1/jobs", headers=ours)).status_code == 200
        foreign = ours | {"Origin": "https://evil.example"}
        await refused(await http.delete("/v1/jobs", headers=foreign), 403, "wrong_origin")
        forwarded = {"X-Forwarded-For": "10.0.0.1", "X-Client-Cert": "x", "X-Forwarded-User": "operator"}
        await refused(await fleet.http(None).get("/v1/jobs", headers=forwarded), 401, "not_authenticated")
        made = (await fleet.post("/v1/join", {})).json()
        assert made["url"] == PUBLIC


@pytest.fixture
def certificate(tmp_path) -> tuple[Path, Path]:
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    made = [
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-keyout",
        key,
        "-out",
        cert,
        "-days",
        "2",
    ]
    subprocess.run(["openssl", "req", "-x509", "-nodes", *made, *subject], check=True, capture_output=True)
    return key, cert


@contextmanager
def nginx(folder: Path, server: str, port: int) -> Iterator[None]:
    """As this account, with its files in `folder`."""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    log = folder / "nginx.log"
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off; pid {folder}/pid; error_log {log};"
        f"events {{}} http {{ access_log off; {paths} {server} }}"
    )
    with subprocess.Popen(
        ["nginx", "-p", folder, "-c", config, "-e", log], stderr=subprocess.DEVNULL
    ) as program:
        try:
            for _ in range(200):
                with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                time.sleep(0.02)
            yield
        finally:
            program.terminate()


@pytest.mark.skipif(not shutil.which("nginx"), reason="needs nginx")
@pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl, for a certificate")
async def test_logs_claims_and_uploads_pass_through_nginx(data, clock, tmp_path, certificate):
    """The example's own text, with other paths and ports."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    key, cert = certificate
    async with running(data, clock, public_url=f"https://localhost:{port}") as fleet:
        server = (ROOT / "etc" / "nginx.conf.example").read_text()
        for ours, theirs in (
            ("listen 443", f"listen 127.0.0.1:{port}"),
            ("server_name fleet.lab.example", "server_name localhost"),
            ("/etc/ssl/fleet.pem", str(cert)),
            ("/etc/ssl/fleet.key", str(key)),
            ("http://127.0.0.1:8490", fleet.url),
            ("$host;", "$http_host;"),
        ):
            assert ours in server
            server = server.replace(ours, theirs)
        trust = ssl.create_default_context(cafile=str(cert))
        with nginx(tmp_path, server, port):
            await _through(fleet, f"https://localhost:{port}", trust)


async def _through(fleet: Coordinator, url: str, trust: ssl.SSLContext) -> None:
    large = b"x" * 5_000_000
    worker = await fleet.worker()
    await fleet.load('schema_version = 1\n[[jobs]]\nname = "a"\nmodel = "gbt"\n')
    held = await worker.take()
    agent = fleet.headers("agent")
    async with httpx.AsyncClient(base_url=url, verify=trust, headers=agent, trust_env=False) as http:
        sent = await http.put(f"/v1/model/{digest(large)}?attempt={held.attempt}", content=large)
        assert sent.status_code == 201, sent.text
        waits = {"worker": worker.id, "claim_id": held.attempt, "wait": 1, "holds": []}
        assert (await http.post("/v1/job/claim", json=waits)).status_code == 204
    seen = fleet.headers("viewer")
    socket_url = url.replace("https", "wss") + "/v1/events"
    async with connect(socket_url, ssl=trust, additional_headers=seen, proxy=None) as events:
        assert "snapshot" in str(await events.recv())
