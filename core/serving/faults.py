"""Faults as the OpenAI API tells them: ``{"error": {"message", "type", "param", "code"}}`` with a status.

Knows nothing of models; the caller says which fault it is.
"""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from core.errors import ModelError, NotFoundError, UserError

RETRY_SECONDS = 5
TYPES = {401: "authentication_error", 429: "rate_limit_error", 500: "server_error", 503: "server_error"}


class RequestError(Exception):
    """A request that isn't answered. ``code`` is for programs, ``message`` for people."""

    def __init__(self, status: int, message: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param

    @property
    def body(self) -> dict[str, Any]:
        """The error object."""
        kind = TYPES.get(self.status, "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    @property
    def headers(self) -> dict[str, str]:
        """What the client should do: give a key, or come again."""
        if self.status == 401:
            return {"WWW-Authenticate": "Bearer"}
        return {"Retry-After": str(RETRY_SECONDS)} if self.status in (429, 503) else {}


class UnavailableError(UserError):
    """The model can't answer now: another holds its device, or it was let go meanwhile."""


def fault_of(error: BaseException) -> RequestError:
    """The fault that tells of an error; what is no user's mistake is told as a fault of the server, without its details."""
    if isinstance(error, RequestError):
        return error
    if isinstance(error, ValidationError):
        return _invalid(error)
    if isinstance(error, UserError):
        message = f"{error.message}. {error.hint}".strip() if error.hint else error.message
        if isinstance(error, UnavailableError | ModelError):
            return RequestError(503, message, code="unavailable")
        if isinstance(error, NotFoundError):
            return RequestError(404, message, code="model_not_found", param="model")
        return RequestError(400, message, code="invalid_request")
    return RequestError(500, "The server failed; its log says why", code="internal_error")


def _invalid(error: ValidationError) -> RequestError:
    first = error.errors(include_url=False, include_input=False)[0]
    param = ".".join(str(part) for part in first["loc"] if part not in ("str", "list[Part]")) or None
    if first["type"] == "json_invalid":
        return RequestError(400, f"The body is no JSON: {first['msg'].removeprefix('Invalid JSON: ')}", code="invalid_json")
    if first["type"] == "extra_forbidden":
        return RequestError(400, f"Unknown argument: {param}", code="unknown_parameter", param=param)
    if first["type"] == "missing":
        return RequestError(400, f"{param} is missing", code="missing_required_parameter", param=param)
    return RequestError(
        400, f"{param or 'The body'}: {first['msg'].removeprefix('Value error, ')}", code="invalid_value", param=param
    )
