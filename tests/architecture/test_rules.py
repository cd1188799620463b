"""House rules that a linter has no word for. CONTRIBUTING.md gives the reason of each."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.architecture.source import EVERYTHING, PRODUCT, ROOT, SERVER, Function, Source, height

ROUTE_LINES = 25
UNTYPED_DICTS = 5
JSON_EDGES = {"openapi", "replay"}  # modules whose subject is a JSON document that somebody else defines
VERBS = {"get", "post", "put", "patch", "delete", "head", "websocket", "api_route"}


def _is_route(function: Function) -> bool:
    return any(
        isinstance(decorator, ast.Call)
        and isinstance(decorator.func, ast.Attribute)
        and decorator.func.attr in VERBS
        for decorator in function.decorator_list
    )


def _routes() -> list[tuple[Source, Function]]:
    return [(source, function) for source in SERVER for function in source.functions() if _is_route(function)]


def test_routes_hold_no_decisions():
    long = [f"{s.at(f)} {f.name}: {height(f)} lines" for s, f in _routes() if height(f) > ROUTE_LINES]
    assert not long


def test_routes_leave_errors_to_the_one_handler():
    catching = [
        f"{source.at(route)} {route.name}"
        for source, route in _routes()
        if any(isinstance(node, ast.Try | ast.TryStar) for node in ast.walk(route))
    ]
    assert not catching


def test_one_module_of_the_server_commits():
    committing = {
        source.name
        for source in SERVER
        for node in source.nodes
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in {"commit", "rollback"}
    }
    assert len(committing) <= 1, sorted(committing)


def _bases(node: ast.ClassDef) -> set[tuple[str, str]]:
    """Each base as (the name it starts with, the class): `wire.Answer[T]` is ("wire", "Answer")."""
    names = [ast.unparse(base).partition("[")[0] for base in node.bases]
    return {(name.partition(".")[0], name.rpartition(".")[2]) for name in names}


def _wire_models() -> set[str]:
    """BaseModel and every class of the protocol that descends from it."""
    classes = [node for source in PRODUCT if source.part == "protocol" for node in source.classes()]
    models, found = {"BaseModel"}, 0
    while found != len(models):
        found = len(models)
        models |= {node.name for node in classes if models & {base for _, base in _bases(node)}}
    return models


def _imported(source: Source) -> set[str]:
    modules = [node for node in source.nodes if isinstance(node, ast.ImportFrom)]
    wire = [node for node in modules if (node.module or "").startswith(("pydantic", "fleet_protocol"))]
    return {"pydantic"} | {alias.asname or alias.name for node in wire for alias in node.names}


# Modules that read what the program itself wrote: its settings and state files, the answer of its own probe.
# And what another program's interface says.
OWN_WORDS = {"settings", "state", "hardware", "credential", "export_mlflow"}


def test_the_wire_is_typed_once():
    models = _wire_models()
    second = [
        f"{source.at(node)} {node.name}"
        for source in PRODUCT
        if source.part not in {"protocol", "trainer"} and source.path.stem not in OWN_WORDS
        for node in source.classes()
        if any(base in models and start in _imported(source) for start, base in _bases(node))
    ]
    assert not second, "a schema outside the protocol is the same schema twice"


def test_payloads_are_not_dictionaries():
    untyped = [
        source.at(node)
        for source in PRODUCT
        if source.path.stem not in JSON_EDGES
        for node in source.nodes
        if isinstance(node, ast.Subscript) and ast.unparse(node).lower() == "dict[str, any]"
    ]
    assert len(untyped) <= UNTYPED_DICTS, untyped


def test_catching_everything_is_rare_and_explained():
    found = [
        (source, node)
        for source in PRODUCT
        for node in source.nodes
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or re.search(r"\b(Base)?Exception\b", ast.unparse(node.type)))
    ]
    silent = [source.at(node) for source, node in found if "#" not in source.lines[node.lineno - 1]]
    assert not silent, "the reason belongs on the same line"
    lines = sum(len(source.lines) for source in PRODUCT)
    assert len(found) <= max(1, lines // 1000), [source.at(node) for source, node in found]


def test_no_task_dies_unnoticed():
    """A TaskGroup's tasks cannot; others are waited for by the function that starts them."""
    loose = [
        f"{source.at(function)} {function.name}"
        for source in PRODUCT
        for function in source.functions()
        if re.search(r"\b(asyncio|loop)\.(create_task|ensure_future)\(", text := ast.unparse(function))
        and "asyncio.wait(" not in text
    ]
    assert not loose


SUPPRESSION = re.compile(
    r"#\s*(?:noqa\b(?::\s*[A-Z]+\d+(?:,\s*[A-Z]+\d+)*)?|type:\s*ignore\b(?:\[[\w\-, ]+\])?)(.*)"
)


def test_every_suppression_gives_its_reason():
    bare = [
        f"{source.name}:{number}"
        for source in EVERYTHING
        if source.path != Path(__file__)
        for number, line in enumerate(source.lines, 1)
        if (found := SUPPRESSION.search(line)) and len(re.findall(r"[A-Za-z]{2,}", found[1])) < 2
    ]
    assert not bare


def test_documents_name_no_one_machine():
    somewhere = re.compile(rf"/root/|/home/\w|/Users/\w|C:\\Users\\|{re.escape(str(ROOT))}\b")
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "etc").rglob("*")]
    named = [
        f"{document.relative_to(ROOT)}:{number}"
        for document in documents
        if document.is_file()
        for number, line in enumerate(document.read_text("utf-8").splitlines(), 1)
        if somewhere.search(line)
    ]
    assert not named
