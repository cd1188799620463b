"""Everything that can go wrong between this program and a coordinator.

FleetError                 one sentence, and `next`: what to do about it
├── BadAddress             the coordinator's address cannot or must not be used
├── BadSettings            the settings file, or what it names, cannot be used
├── Unreachable            no answer, or the connection broke
├── BadAnswer              something answered that does not speak fleet's protocol
├── Unreadable             a file or folder that was to be sent cannot be, or changed meanwhile
└── Refused                a problem in the coordinator's own words; `code` is stable
    ├── NotAuthenticated   no token, or a wrong one
    ├── NotPermitted       the token's role may not do that
    ├── NotFound           no such job, attempt, worker, model or address
    ├── Conflict           not in the state that this needs
    ├── Invalid            the request or the manifest is wrong; `problem.errors` lists every reason
    └── Unavailable        the coordinator cannot serve this just now
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the command line names these errors before it knows whether it needs the wire models
    from fleet_protocol.errors import Problem


class FleetError(Exception):
    def __init__(self, message: str, advice: str | None = None) -> None:
        super().__init__(message)
        self.next = advice


class BadAddress(FleetError):
    """The coordinator's address cannot or must not be used."""


class BadSettings(FleetError):
    """The settings file, or what it names, cannot be used."""


class Unreachable(FleetError):
    """Nothing answered, or the connection broke before the answer was whole."""


class BadAnswer(FleetError):
    """Something answered, but not in fleet's words."""


class Unreadable(FleetError):
    """A file or folder that was to be sent cannot be, or changed meanwhile."""


class Refused(FleetError):
    """The coordinator said no, and why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail or problem.title, problem.next)
        self.problem = problem

    @property
    def code(self) -> str:
        return self.problem.code


class NotAuthenticated(Refused):
    """No token, or a wrong one."""


class NotPermitted(Refused):
    """The token's role may not do that."""


class NotFound(Refused):
    """No such job, attempt, worker, model or address."""


class Conflict(Refused):
    """What is asked for does not go with the present state."""


class Invalid(Refused):
    """The request or the manifest is wrong."""


class Unavailable(Refused):
    """The coordinator cannot serve this just now."""


BY_STATUS: dict[int, type[Refused]] = {
    400: Invalid,
    401: NotAuthenticated,
    403: NotPermitted,
    404: NotFound,
    409: Conflict,
    422: Invalid,
    429: Unavailable,
    503: Unavailable,
    507: Unavailable,
}


def refused(problem: Problem) -> Refused:
    """The most telling class for a problem; a status without one of its own gives a plain `Refused`."""
    return BY_STATUS.get(problem.status, Refused)(problem)
