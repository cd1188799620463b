"""The program's keys that take something out of it: `y`, `Y`, `e`, `v`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from textual.app import App, SuspendNotSupported
from textual.binding import Binding

from fleet_client.errors import FleetError
from fleet_protocol.plan import Plan
from fleet_tui.actions import READ_ONLY
from fleet_tui.board import Board
from fleet_tui.inspector import Inspector
from fleet_tui.outside import Copy, attended, capped, copies, folded, program, worker_copies
from fleet_tui.planning import plan_lines, plan_sentence, touched
from fleet_tui.saving import free_path, write_lines, write_pieces
from fleet_tui.store import Store
from fleet_tui.text import one_line
from fleet_tui.transport import Access, Coordinator, whole_log
from fleet_tui.widgets.agree import Agree
from fleet_tui.widgets.menu import Menu

NOTHING = "nothing is selected"


class Hands(App[None], inherit_bindings=False):
    """Clipboard, editor and pager, for the row under the cursor."""

    BINDINGS = [
        Binding("y", "copy_id", "copy the id", show=False),
        Binding("Y", "copy", "copy …", show=False),
        Binding("e", "edit", "settings in $EDITOR", show=False),
        Binding("v", "page", "log in $PAGER", show=False),
    ]
    access: Access
    board: Board
    store: Store
    inspector: Inspector
    contexts: Mapping[str, Callable[[], Access]]
    context: str
    _coordinator: Coordinator | None

    def _copies(self) -> list[Copy]:
        if (row := self.board.selected) is not None:
            return copies(row, self.inspector.detail)
        worker = self.store.workers.get(self.board.rows.cursor or "")
        return worker_copies(worker) if worker else []

    def action_copy_id(self) -> None:
        found = self._copies()
        self._take(found[0]) if found else self.board.say(NOTHING, ok=False)

    def action_copy(self) -> None:
        found = self._copies()
        if not found:
            self.board.say(NOTHING, ok=False)
            return
        choices = {copy.key: (copy.what, copy.text) for copy in found}
        taken = {copy.key: copy for copy in found}
        self.push_screen(Menu("Copy", choices, lambda key: self._take(taken[key])))

    def _take(self, copy: Copy) -> None:
        text, cut = capped(copy.text)
        self.copy_to_clipboard(text)
        size = f", only its first {len(text.encode()):,} bytes" if cut else ""
        self.board.say(f"told the terminal to copy the {copy.what}{size}")

    def action_edit(self) -> None:
        self._hand_over(("VISUAL", "EDITOR"), ("vi", "nano"), log=False)

    def action_page(self) -> None:
        self._hand_over(("PAGER",), ("less", "more"), log=True)

    def _hand_over(self, names: tuple[str, ...], otherwise: tuple[str, ...], *, log: bool) -> None:
        command = program(names, otherwise)
        if self.board.selected is None or self._coordinator is None:
            self.board.say("no job is selected", ok=False)
        elif isinstance(command, str):
            self.board.say(command, ok=False)
        else:
            self.run_worker(self._show(command, log), group="outside", exclusive=True)

    async def action_context(self, name: str) -> None:
        """Turn to another fleet."""
        raise NotImplementedError

    def action_plan(self) -> None:
        self.run_worker(self._plan(), group="plan", exclusive=True)

    async def _plan(self) -> None:
        if (coordinator := self._coordinator) is None:
            self.board.say("there is no coordinator to ask", ok=False)
            return
        try:
            plan = await coordinator.plan()
        except FleetError as error:
            self.board.say(f"{error} {error.next or ''}".strip(), ok=False)
            return
        refusal = "nothing to apply; Esc closes" if not plan.changed else ""
        refusal = READ_ONLY if self.access.read_only else refusal

        def answered(yes: bool | None) -> None:
            if yes:
                self.run_worker(self._reload(coordinator, plan), group="plan")

        self.push_screen(Agree(plan_lines(plan), "reload", refusal), answered)

    async def _reload(self, coordinator: Coordinator, agreed: Plan) -> None:
        """Exactly what was agreed to: a manifest that was written anew meanwhile has to be looked at again."""
        try:
            if touched(await coordinator.plan()) != touched(agreed):
                self.board.say("the manifest or its jobs changed meanwhile: plan again", ok=False)
                return
            done = await coordinator.reload()
        except FleetError as error:
            self.board.say(f"{error} {error.next or ''}".strip(), ok=False)
        else:
            self.board.say(f"reloaded {one_line(done.file)}: {plan_sentence(done)}")

    async def _show(self, command: list[str], log: bool) -> None:
        row, coordinator = self.board.selected, self._coordinator
        if row is None or coordinator is None:
            return
        chosen = self.inspector.chosen
        with TemporaryDirectory(prefix="fleet-") as folder:
            number = chosen.number if chosen else row.job.attempts
            file = Path(folder) / free_path(row.job.name, number).with_suffix(".log" if log else ".json")
            try:
                if log:
                    pieces = whole_log(coordinator, row.job.job_id, chosen.attempt if chosen else None)
                    await write_pieces(file, folded(pieces))
                else:
                    detail = await coordinator.job(row.job.job_id)
                    write_lines(file, detail.spec.model_dump_json(indent=2).splitlines())
            except (OSError, FleetError) as error:
                self.board.say(str(error), ok=False)
                return
            file.chmod(0o400)  # what is changed in it goes nowhere, and the editor says so
            try:
                with self.suspend():
                    trouble = attended([*command, str(file)], no_color=self.no_color)
            except SuspendNotSupported:
                trouble = "this terminal cannot be handed to another program"
            self.board.say(trouble, ok=not trouble)
