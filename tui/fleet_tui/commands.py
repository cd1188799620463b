"""The command palette: every live key by its name, the themes, and the plan of a reload."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import cast

from textual.command import DiscoveryHit, Hit, Hits, Provider

from fleet_tui.hands import Hands
from fleet_tui.keys import sign


class Commands(Provider):
    """Names in the order of the keys' help; Textual finds and shows them."""

    def _all(self) -> Iterator[tuple[str, Callable[[], object], str]]:
        app = cast(Hands, self.app)
        yield "plan a reload of the manifest", app.action_plan, "what it would do; applied only after y"
        names: set[str] = set()
        for key, active in self.screen.active_bindings.items():
            what = active.binding.description
            if active.enabled and what not in names and key != app.COMMAND_PALETTE_BINDING:
                names.add(what)
                yield what, partial(app.simulate_key, key), sign(key)
        for name in app.contexts:
            if name != app.context:
                yield f"context: {name}", partial(app.action_context, name), "another fleet"
        for theme in app.available_themes:
            yield f"theme {theme}", partial(setattr, app, "theme", theme), ""

    async def discover(self) -> Hits:
        for name, run, help_text in self._all():
            yield DiscoveryHit(name, run, help=help_text)

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for name, run, help_text in self._all():
            if (score := matcher.match(name)) > 0:
                yield Hit(score, matcher.highlight(name), run, help=help_text)
