"""Write the pages of `docs/reference` that say what the code says: `python -m docs.generate`.

A test compares them with what would be written. A change of the interface that breaks programs written against the
document there is written only with `--breaking`.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

from prometheus_client.metrics import MetricWrapperBase

from docs.interface import breaking
from fleet_protocol.errors import Code
from fleet_server.app import create_app
from fleet_server.errors import Refusal
from fleet_server.exposition.meters import Meters
from fleet_server.settings import Settings

REFERENCE = Path(__file__).parent / "reference"


def errors() -> str:
    lines = [
        "# Errors",
        "",
        "Every refusal of the coordinator is `application/problem+json`, as RFC 9457 has it: `title`, `status` and",
        "`detail`, and of its own `code`, `next` (the command to run, where there is one), `errors` (each single",
        "thing that is wrong, with file, line and key) and `current` (the truth, where the caller's is an older",
        "one). Programs go by `code`; it never changes. The sentence may say more in the single case.",
        "",
        "| code | status | what it means and what to do | next |",
        "|---|---|---|---|",
    ]
    means = defaultdict(list)
    for refusal in _below(Refusal):
        if refusal.__doc__:
            text = " ".join(refusal.__doc__.split())
            means[refusal.code, refusal.status].append((text, refusal.next))
    for (code, status), said in sorted(means.items()):
        texts = " ".join(text for text, _ in said)
        commands = {f"`{command}`" for _, command in said if command}
        lines.append(f"| `{code}` | {status} | {texts} | {', '.join(sorted(commands))} |")
    other = sorted(set(Code) - {code for code, _ in means})
    lines += ["", "Codes without a sentence of their own: " + ", ".join(f"`{code}`" for code in other) + "."]
    return "\n".join(lines) + "\n"


def _below(kind: type[Refusal]) -> Iterator[type[Refusal]]:
    for one in kind.__subclasses__():
        yield one
        yield from _below(one)


def interface() -> str:
    with tempfile.TemporaryDirectory() as folder:
        document = create_app(Settings(data=Path(folder), manifest=None)).openapi()
    document["info"]["version"] = (
        "1"  # of the interface: the programs' own would change the file at each release
    )
    return json.dumps(document, indent=1, sort_keys=True) + "\n"


def metrics() -> str:
    lines = [
        "# Metrics",
        "",
        "`GET /metrics` with a viewer's token, as Prometheus reads it; [Observe](../howto/observe.md) says how.",
        "Counters and histograms begin at zero with the coordinator; gauges tell the moment of the scrape.",
        "",
        "| name | kind | labels | what it tells |",
        "|---|---|---|---|",
    ]
    for metric in vars(Meters()).values():
        if isinstance(metric, MetricWrapperBase):
            told = next(iter(metric.describe()))
            name = told.name + "_total" * (told.type == "counter")
            labels = ", ".join(f"`{label}`" for label in metric._labelnames) or "–"
            lines.append(f"| `{name}` | {told.type} | {labels} | {told.documentation} |")
    return "\n".join(lines) + "\n"


PAGES: dict[str, Callable[[], str]] = {"errors.md": errors, "metrics.md": metrics, "openapi.json": interface}


def main() -> None:
    document = REFERENCE / "openapi.json"
    if document.exists() and (
        broken := breaking(json.loads(document.read_text("utf-8")), json.loads(interface()))
    ):
        print("programs written against the older interface break:", *broken, sep="\n  ")  # noqa: T201
        if "--breaking" not in sys.argv:
            sys.exit("nothing was written; `python -m docs.generate --breaking` does it all the same")
    for name, write in PAGES.items():
        (REFERENCE / name).write_text(write(), "utf-8")


if __name__ == "__main__":
    main()
