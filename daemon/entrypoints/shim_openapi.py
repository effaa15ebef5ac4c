"""What ``/docs`` shows: the contract's fields and answers, from the code that checks them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi

from daemon.core.request import Request
from daemon.entrypoints.shim_answers import Accepted, Failure

REFUSALS = {
    400: "The request is no valid one; `error` says why",
    401: "The key is missing or wrong",
    404: "There is no such endpoint",
    413: "The body is larger than 1 MiB",
    415: "The body is not called JSON",
    429: "Too many calls with this key, or too many jobs of this user",
    503: "The job store is away: nothing was written, try again",
}
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


def answers(success: Any) -> dict[int | str, dict[str, Any]]:
    """The answers of an endpoint behind a key."""
    refused: dict[int | str, dict[str, Any]] = {
        status: {"model": Failure, "description": text} for status, text in REFUSALS.items()
    }
    return {200: {"model": success}, **refused}


RUNSYNC: dict[str, Any] = {
    "tags": ["runpod"],
    "responses": answers(Accepted),
    "openapi_extra": {
        "parameters": [{"name": "endpoint_id", "in": "path", "required": True, "schema": {"type": "string"}}],
        "requestBody": BODY,
        "security": [{"key": []}],
    },
}


def describe(app: FastAPI, endpoints: Mapping[str, Any]) -> None:
    """Let the application describe itself: with the key's scheme, without answers that it never gives.

    ``endpoints`` are those that it serves past fastapi's own decorators, by their paths.
    """
    described = APIRouter()
    for path, endpoint in endpoints.items():
        described.add_api_route(path, endpoint, methods=["POST"], **RUNSYNC)

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
