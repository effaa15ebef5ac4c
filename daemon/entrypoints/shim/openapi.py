"""What ``/docs`` shows: the contract's fields and answers, from the code that checks them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.routing import Route

from daemon.core.request import RANGES, Request
from daemon.entrypoints.shim.answers import Accepted, Failure

REFUSALS = {
    400: "The request is no valid one; `error` says why",
    401: "The key is missing or wrong",
    404: "There is no such endpoint",
    413: "The body is larger than 1 MiB",
    415: "The body is not called JSON",
    429: "Too many calls with this key, or too many jobs of this user",
    503: "The job store is away: nothing was written, try again",
}
OF_BODIES = (400, 413, 415)
EXAMPLE = {
    "input": {
        "prompt": "A red sports car on a mountain road",
        "user_id": "firebase_user_uid",
        "file_uid": "unique_generation_id",
        "use_cloud_storage": True,
    }
}


def _input() -> dict[str, Any]:
    schema = Request.model_json_schema()
    ids = {name: {"type": "string", "minLength": 1} for name in ("user_id", "file_uid")}
    properties = {**schema["properties"], **ids}
    for name, (least, most) in RANGES.items():
        kind = "integer" if isinstance(least, int) else "number"
        properties[name] = {"type": [kind, "null"], "minimum": least, "maximum": most}
        properties[name]["default"] = Request.model_fields[name].default
    properties["use_cloud_storage"] = {"const": True}
    properties["prompt"] = {"type": "string", "minLength": 1}
    return {
        "type": "object",
        "required": ["prompt", "user_id", "file_uid", "use_cloud_storage"],
        "properties": properties,
        "description": "Names in camelCase are accepted too; null is as if absent.",
    }


BODY = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {"type": "object", "required": ["input"], "properties": {"input": _input()}},
            "example": EXAMPLE,
        }
    },
}


def answers(success: Any, *, sends: bool) -> dict[int | str, dict[str, Any]]:
    """The answers of an endpoint behind a key, to calls with a body or without."""
    refused: dict[int | str, dict[str, Any]] = {
        status: {"model": Failure, "description": text}
        for status, text in REFUSALS.items()
        if sends or status not in OF_BODIES
    }
    return {200: {"model": success}, **refused}


def describe(app: FastAPI, routes: Sequence[Route]) -> None:
    """Let the application describe itself: with the key's scheme, without answers that it never gives.

    ``routes`` are those of RunPod's interface, which it serves past fastapi's own decorators.
    """
    described = APIRouter()
    for route in routes:
        for method in sorted((route.methods or set()) - {"HEAD"}):
            described.add_api_route(route.path, route.endpoint, methods=[method], **_operation(route))

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(title=app.title, version=app.version, routes=[*described.routes, *app.routes])
            for path in schema["paths"].values():
                for operation in path.values():
                    operation["responses"].pop("422", None)  # the framework's, whose form is not the contract's
            components = schema.setdefault("components", {})
            components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
            for name in ("HTTPValidationError", "ValidationError"):
                components.get("schemas", {}).pop(name, None)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # how fastapi's manual says to do it


def _operation(route: Route) -> dict[str, Any]:
    names = sorted(route.param_convertors)
    extra: dict[str, Any] = {
        "parameters": [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names],
        "security": [{"key": []}],
    }
    sends = route.path.endswith(("/run", "/runsync"))
    if sends:
        extra["requestBody"] = BODY
    success = Accepted if route.path.endswith("/runsync") else dict[str, Any]
    return {"tags": ["runpod"], "responses": answers(success, sends=sends), "openapi_extra": extra}
