"""The two roots of every wire model: what is sent is strict, what is received tolerates newer fields."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer, StringConstraints


def _utc(value: datetime) -> datetime:
    """Databases hand back naive datetimes; everything of ours is UTC."""
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def rfc3339(value: datetime) -> str:
    """RFC 3339 in UTC with milliseconds and `Z`."""
    return _utc(value).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def storable(text: str) -> str:
    """A trainer's last words may hold NUL, which JSON carries and PostgreSQL does not."""
    return text.replace("\0", "\ufffd")


Time = Annotated[datetime, AfterValidator(_utc), PlainSerializer(rfc3339, return_type=str, when_used="json")]
Line = Annotated[str, StringConstraints(max_length=2000), AfterValidator(storable)]
MAX_INTEGER = 2**53
"""What JSON carries without loss through every reader, and every database can hold."""
Whole = Annotated[int, Field(ge=-MAX_INTEGER, le=MAX_INTEGER)]
Count = Annotated[int, Field(ge=0, le=MAX_INTEGER)]
Label = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]


class Request(BaseModel):
    """A request's body: an unknown field is a mistake."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Answer(BaseModel):
    """An answer or a view: a newer coordinator may say more than this program knows."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)
