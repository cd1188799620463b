from __future__ import annotations

from typer.testing import CliRunner

from fleet_server.cli import app
from fleet_server.install import steps


def test_a_dry_run_shows_the_unit_and_each_command() -> None:
    done = CliRunner().invoke(app, ["install", "--dry-run", "--", "--manifest", "/srv/a b.toml"])
    assert done.exit_code == 0, done.output
    assert 'serve --data /var/lib/fleet-server --manifest "/srv/a b.toml"\n' in done.stdout
    assert "\nUser=fleet-server\n" in done.stdout
    assert done.stdout.index("$ systemctl daemon-reload") < done.stdout.index(
        "$ systemctl restart fleet-server"
    )


def test_an_account_is_made_once() -> None:
    assert steps(has_account=False)[0][0] == "useradd"
    assert steps(has_account=True) == steps(has_account=False)[1:]
