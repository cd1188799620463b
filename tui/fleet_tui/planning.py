"""What a reload of the manifest would do, as lines to agree to. Pure."""

from __future__ import annotations

from fleet_protocol.plan import Category, Plan, PlanEntry
from fleet_tui.text import Line, Tone, fit, one_line

TOUCHED: dict[Category, Tone] = {Category.NEW: "good", Category.CHANGED: "warn", Category.REMOVED: "dim"}
SHOWN = 12


def touched(plan: Plan) -> list[PlanEntry]:
    """Jobs that it would add, replace or no longer name."""
    return [entry for entry in plan.entries if entry.category in TOUCHED]


def plan_sentence(plan: Plan) -> str:
    """`2 new, 1 removed`."""
    counts = [f"{plan.count(category)} {category}" for category in TOUCHED if plan.count(category)]
    return ", ".join(counts) or ("only scheduling changes" if plan.changed else "nothing changes")


def plan_lines(plan: Plan) -> list[Line]:
    title: Line = [
        ("Reload ", "strong"),
        (one_line(plan.file), "strong"),
        (f"  {plan_sentence(plan)}", "dim"),
    ]
    lines = [title, []]
    entries = touched(plan)
    for entry in entries[:SHOWN]:
        why = entry.unsatisfiable or ", ".join(entry.differs)
        name = fit(one_line(entry.name), 34)
        tone: Tone = "bad" if entry.unsatisfiable else "dim"
        lines.append(
            [(fit(entry.category, 9), TOUCHED[entry.category]), (f"{name}  ", "plain"), (one_line(why), tone)]
        )
    if len(entries) > SHOWN:
        lines.append([(f"and {len(entries) - SHOWN} more", "dim")])
    return lines
