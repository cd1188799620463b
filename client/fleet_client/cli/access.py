"""`fleet join`, `fleet token` and `fleet workers revoke`: who gets in."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fleet_client.cli.output import emit, print_json, print_text, table
from fleet_client.cli.session import USAGE, Host, Json, Url, ask, fail, note
from fleet_client.text import span

if TYPE_CHECKING:
    from fleet_protocol.enrolment import JoinView, TokenView

join = typer.Typer(no_args_is_help=True, help="Tokens that machines join with: new, list, revoke.")
token = typer.Typer(no_args_is_help=True, help="Tokens of viewers and operators: new, list, revoke.")
Id = Annotated[str, typer.Argument(help="As in the list.")]
UNITS = {"m": 60, "h": 3600, "d": 86_400}


@join.command("new")
def new_join(
    *,
    ttl: Annotated[str, typer.Option(help="How long it is good for: 30m, 2h, 7d at most.")] = "1h",
    uses: Annotated[int, typer.Option(min=1, max=50, help="How many machines may join by it.")] = 1,
    name: Annotated[str | None, typer.Option(help="Only machines called so, such as 'pi-*'.")] = None,
    url: Url = None,
    json: Json = False,
) -> None:
    """Print the line that makes a machine a worker. Whoever has it can join: give it to nobody else."""
    made = ask(url, lambda fleet: fleet.make_join(seconds=_seconds(ttl), uses=uses, names=name))
    if json:
        print_json(made)
        return
    many = f"{uses} machines join" if uses > 1 else "one machine joins"
    note(f"On the machine, with fleet installed; {many} by it, until {made.expires_at:%Y-%m-%d %H:%M} UTC:")
    print_text(f"fleet-agent enrol {made.url} --token {made.token}")


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(\d+)([mhd])", text)
    if found is None:
        fail(f"--ttl {text!r} is no length of time.", "Say it as 30m, 2h or 7d.", code=USAGE)
    return int(found[1]) * UNITS[found[2]]


@join.command("list")
def list_joins(*, url: Url = None, json: Json = False) -> None:
    """Show the join tokens, who joined by them, and until when they are good. Never a secret."""
    page = ask(url, lambda fleet: fleet.joins())
    if json:
        print_json(page)
    elif page.joins:
        now = datetime.now(UTC)
        rows = [
            (one.id, _state(one, now), one.uses_left, one.names or "", ", ".join(one.used_by), one.created_by)
            for one in page.joins
        ]
        emit(table(("ID", "STATE", "LEFT", "ONLY", "JOINED", "MADE BY"), rows, fold=("JOINED",)))
    else:
        emit("No join tokens. Make one: fleet join new")


def _state(one: JoinView | TokenView, now: datetime) -> str:
    if one.revoked_at is not None:
        return "revoked"
    if one.expires_at is None:
        return "good"
    return f"good for {span(one.expires_at - now)}" if one.expires_at > now else "expired"


@join.command("revoke")
def revoke_join(join_id: Id, *, url: Url = None, json: Json = False) -> None:
    """Let nobody join by it any more; who has joined stays."""
    done = ask(url, lambda fleet: fleet.revoke_join(join_id))
    print_json(done) if json else emit(f"Nobody joins by {done.id} any more.")


@token.command("new")
def new_token(
    *,
    role: Annotated[Literal["viewer", "operator"], typer.Option(help="What it may do.")] = "viewer",
    name: Annotated[str, typer.Option(help="Whose it is; it stands in the history.")],
    days: Annotated[float, typer.Option(min=0.01, max=3650, help="How long it is good for.")] = 90,
    url: Url = None,
    json: Json = False,
) -> None:
    """Print a new token for a person; it is shown this once."""
    made = ask(url, lambda fleet: fleet.make_token(role, name, days=days))
    if json:
        print_json(made)
        return
    note(f"A {role} token for {name}, until {made.expires_at:%Y-%m-%d}. Keep it: fleet context add NAME URL")
    print_text(made.token)


@token.command("list")
def list_tokens(*, url: Url = None, json: Json = False) -> None:
    """Show the tokens of people and agents. Never a secret."""
    page = ask(url, lambda fleet: fleet.tokens())
    if json:
        print_json(page)
    elif page.tokens:
        now = datetime.now(UTC)
        rows = [(one.id, one.role, one.name, _state(one, now), one.created_by) for one in page.tokens]
        emit(table(("ID", "ROLE", "NAME", "STATE", "MADE BY"), rows))
    else:
        emit("No tokens but those of this machine's own account. Make one: fleet token new --name NAME")


@token.command("revoke")
def revoke_token(token_id: Id, *, url: Url = None, json: Json = False) -> None:
    """Void a token now, and cut whoever came in by it."""
    done = ask(url, lambda fleet: fleet.revoke_token(token_id))
    print_json(done) if json else emit(
        f"{done.role} {done.name}: the token {done.id} opens nothing any more."
    )


def revoke(
    worker: Host,
    *,
    reason: Annotated[str, typer.Option(help="Kept in the history.")] = "",
    url: Url = None,
    json: Json = False,
) -> None:
    """Shut a worker out now: its credential is void, its connections are cut, its jobs go back to the queue."""
    done = ask(url, lambda fleet: fleet.revoke_worker(worker, reason))
    print_json(done) if json else emit(f"{done.name} is shut out. To let it in again: fleet join new")
