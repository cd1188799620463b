"""What ends the program: one sentence that says what to do next, and an exit code."""

from __future__ import annotations


class AgentError(Exception):
    """Refused: by the coordinator, by this machine, or by a second agent on the same folder."""

    exit_code = 1


class CopiedFolder(AgentError):
    """The state folder is a copy, and the agent that it was copied from is live."""


class UsageError(AgentError):
    """A flag or an environment variable makes no sense."""

    exit_code = 2


class CoordinatorAway(AgentError):
    """Nobody answers; only `doctor` gives up on that."""

    exit_code = 3
