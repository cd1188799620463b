"""Pages that repeat what the code says, say it."""

from __future__ import annotations

import copy
import json

import pytest
from docs.generate import PAGES, REFERENCE
from docs.interface import breaking


@pytest.mark.parametrize("name", PAGES)
def test_it_is_what_would_be_written(name):
    assert (REFERENCE / name).read_text("utf-8") == PAGES[name](), "python -m docs.generate writes it anew"


@pytest.fixture(scope="module")
def document():
    return json.loads(PAGES["openapi.json"]())


def changed(document, *steps):
    """A copy, and the part of it that the steps lead to."""
    new = copy.deepcopy(document)
    part = new
    for step in steps:
        part = part[step]
    return new, part


SCHEMAS = ("components", "schemas")
LIST = ("paths", "/v1/jobs", "get")


def test_nothing_breaks_by_more(document):
    new, jobs = changed(document, *LIST)
    jobs["parameters"].append({"in": "query", "name": "new", "required": False})
    new["paths"]["/v1/new"] = {"get": {"operationId": "new", "responses": {}}}
    new["components"]["schemas"]["JobView"]["properties"]["new"] = {"type": "string"}
    assert breaking(document, new) == []


@pytest.mark.parametrize(
    ("steps", "change", "said"),
    [
        (("paths",), lambda paths: paths.pop("/v1/jobs"), "GET /v1/jobs is gone"),
        (LIST, lambda call: call.update(operationId="x"), "GET /v1/jobs is called x now"),
        (LIST, lambda call: call["parameters"].clear(), "GET /v1/jobs takes no status any more"),
        (
            LIST,
            lambda call: call["parameters"].append({"in": "query", "name": "day", "required": True}),
            "GET /v1/jobs demands day",
        ),
        ((*SCHEMAS, "JobView", "properties"), lambda has: has.pop("status"), "JobView.status is gone"),
        ((*SCHEMAS, "JobView", "required"), lambda has: has.remove("name"), "JobView.name may be absent"),
        (
            (*SCHEMAS, "JobView", "properties", "name"),
            lambda has: has.update(type="integer"),
            "JobView.name is integer, was string",
        ),
        (
            (*SCHEMAS, "HelloRequest", "required"),
            lambda asks: asks.append("colour"),
            "HelloRequest.colour is demanded",
        ),
    ],
)
def test_what_is_taken_away_or_demanded_breaks(document, steps, change, said):
    new, part = changed(document, *steps)
    change(part)
    assert said in breaking(document, new)
