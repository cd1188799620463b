"""The pictures of a report, by matplotlib: imported only where wanted, and the same bytes for the same values."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

from fleet_client.report import Told
from fleet_client.text import cut, one_line

mpl.use("Agg")

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

PANELS = 6
MOST_NUMBERED = 20  # classes whose windows are counted in the squares
FEW_POINTS = 30  # and each is shown


def draw(told: Told, folder: Path) -> tuple[str, ...]:
    """The job's files in `folder`, by name: its confusion matrix and its curves, if it has any. OSError."""
    made = (confusion(told), curves(told))
    names = (f"confusion-{told.job.job_id}.png", f"curves-{told.job.job_id}.png")
    for picture, name in zip(made, names, strict=True):
        if picture is not None:
            picture.savefig(folder / name, dpi=110, metadata={"Software": None})
    return tuple(name for picture, name in zip(made, names, strict=True) if picture is not None)


def label(text: str) -> str:
    return cut(one_line(text), 40).replace("$", r"\$")  # else it is taken for a formula


def confusion(told: Told) -> Figure | None:
    found = told.evaluation
    if not found or not found.confusion or any(len(row) != len(found.confusion) for row in found.confusion):
        return None
    shares = [[count / max(sum(row), 1) for count in row] for row in found.confusion]
    picture = Figure(figsize=(6, 5.4), layout="constrained")
    axes = picture.add_subplot()
    image = axes.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    if len(shares) <= MOST_NUMBERED:
        for actual, row in enumerate(found.confusion):
            for predicted, count in enumerate(row):
                colour = "white" if shares[actual][predicted] > 0.5 else "black"
                axes.text(
                    predicted, actual, str(count or ""), ha="center", va="center", fontsize=7, color=colour
                )
    picture.colorbar(image, label="share of the actual class")
    names = [label(name) for name in found.classes] or [str(number) for number in range(len(shares))]
    axes.set_xticks(range(len(shares)), names[: len(shares)], rotation=60, ha="right", fontsize=7)
    axes.set_yticks(range(len(shares)), names[: len(shares)], fontsize=7)
    axes.set(xlabel="predicted", ylabel="actual", title=label(told.job.name))
    return picture


def curves(told: Told) -> Figure | None:
    shown = list(told.curves.items())[:PANELS]
    if not shown:
        return None
    rows = -(-len(shown) // 2)
    picture = Figure(figsize=(9, 2.6 * rows), layout="constrained")
    for number, (name, points) in enumerate(shown):
        axes = picture.add_subplot(rows, 2, number + 1)
        values = [float("nan") if value is None else value for _, value, _ in points]
        axes.plot(
            [step for step, _, _ in points],
            values,
            linewidth=1,
            marker="." if len(points) < FEW_POINTS else "",
        )
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
        axes.set(title=label(name), xlabel="step")
        axes.grid(alpha=0.3)
    picture.suptitle(label(told.job.name))
    return picture
