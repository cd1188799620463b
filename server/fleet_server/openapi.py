"""The OpenAPI document: what FastAPI derives, plus what it cannot know about tokens and problems."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from fleet_protocol.errors import PROBLEM_JSON, Problem
from fleet_server.access.permissions import PERMISSIONS, PUBLIC

METHODS = frozenset({"get", "put", "post", "patch", "head", "delete"})


def install(app: FastAPI) -> None:
    """Say of each operation which token it takes, and that every error is a problem."""
    derive = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            _complete(derive())
        return derive()

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend the document


def _complete(document: dict[str, Any]) -> None:
    components = document.setdefault("components", {})
    components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    schemas = components.setdefault("schemas", {})
    problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(problem.pop("$defs", {}), Problem=problem)
    for stock in ("HTTPValidationError", "ValidationError"):
        schemas.pop(stock, None)
    for path in document["paths"].values():
        for method in METHODS & path.keys():
            _describe(path[method])


def _describe(operation: dict[str, Any]) -> None:
    roles = PERMISSIONS.get(operation["operationId"], PUBLIC)
    if roles:
        operation["security"] = [{"token": []}]
        operation["description"] = (
            f"{operation.get('description', '')}\n\nTakes a token of: {', '.join(sorted(roles))}."
        )
    operation["responses"].pop("422", None)
    schema = {"$ref": "#/components/schemas/Problem"}
    operation["responses"]["default"] = {
        "description": "A problem.",
        "content": {PROBLEM_JSON: {"schema": schema}},
    }
