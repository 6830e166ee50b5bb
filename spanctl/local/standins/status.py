"""How a stand-in refuses: one status, told as gRPC or as Google's JSON over HTTP."""

from enum import StrEnum
from http import HTTPStatus


class Status(StrEnum):
    """The canonical codes that the stand-ins answer with; the values are gRPC's names."""

    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    FAILED_PRECONDITION = "FAILED_PRECONDITION"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    ABORTED = "ABORTED"
    UNIMPLEMENTED = "UNIMPLEMENTED"
    UNAVAILABLE = "UNAVAILABLE"
    INTERNAL = "INTERNAL"

    @property
    def http(self) -> HTTPStatus:
        """The HTTP status that Google's APIs send with this code."""
        return _HTTP[self]


_HTTP = {
    Status.INVALID_ARGUMENT: HTTPStatus.BAD_REQUEST,
    Status.NOT_FOUND: HTTPStatus.NOT_FOUND,
    Status.ALREADY_EXISTS: HTTPStatus.CONFLICT,
    Status.PERMISSION_DENIED: HTTPStatus.FORBIDDEN,
    Status.UNAUTHENTICATED: HTTPStatus.UNAUTHORIZED,
    Status.FAILED_PRECONDITION: HTTPStatus.BAD_REQUEST,
    Status.RESOURCE_EXHAUSTED: HTTPStatus.TOO_MANY_REQUESTS,
    Status.ABORTED: HTTPStatus.CONFLICT,
    Status.UNIMPLEMENTED: HTTPStatus.NOT_IMPLEMENTED,
    Status.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    Status.INTERNAL: HTTPStatus.INTERNAL_SERVER_ERROR,
}


class RefusedError(Exception):
    """What a client of a stand-in is told; never raised to users of spanctl.

    Attributes:
        status: The canonical code.
        message: Google's words where they are known; without any secret.
    """

    def __init__(self, status: Status, message: str) -> None:
        """Keep both parts."""
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message


def denied(permission: str, resource: str) -> RefusedError:
    """Return the refusal of somebody who lacks a permission."""
    text = f"Permission '{permission}' denied for resource '{resource}' (or it may not exist)."
    return RefusedError(Status.PERMISSION_DENIED, text)


def invalid(message: str) -> RefusedError:
    """Return the refusal of a request that can't be right."""
    return RefusedError(Status.INVALID_ARGUMENT, message)
