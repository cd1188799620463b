"""Runs for an MLflow tracking server, over its REST interface: each attempt once, however often it is exported."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fleet_client.connection import Connection, Query
from fleet_client.errors import BadAddress, BadAnswer, FleetError, Unreachable
from fleet_client.export import NotExportable, Run
from fleet_client.text import cut, one_line
from fleet_protocol.states import JobStatus
from fleet_protocol.wire import Answer, Request

if TYPE_CHECKING:
    from httpx import RequestError, Response

MOST_METRICS, MOST_PARAMS = 1000, 100  # in one log-batch
LONGEST_KEY, LONGEST_PARAM = 250, 6000
UNFIT = re.compile(r"[^\w\-. /]", re.ASCII)  # in the name of a metric or a parameter
ENDED = {JobStatus.COMPLETED: "FINISHED", JobStatus.FAILED: "FAILED", JobStatus.CANCELLED: "KILLED"}
CHECK = "check --to: it is the address that MLflow's own pages are at"
LONGEST_SAID = 300
Model = TypeVar("Model", bound=BaseModel)
T = TypeVar("T")


class Pair(Request):
    key: str
    value: str


class Metric(Request):
    model_config = ConfigDict(allow_inf_nan=True, ser_json_inf_nan="strings")

    key: str
    value: float
    timestamp: int
    step: int


class CreateExperiment(Request):
    name: str


class Search(Request):
    experiment_ids: tuple[str, ...]
    filter: str
    max_results: int = 1


class CreateRun(Request):
    experiment_id: str
    run_name: str
    start_time: int
    tags: tuple[Pair, ...]


class LogBatch(Request):
    run_id: str
    metrics: tuple[Metric, ...] = ()
    params: tuple[Pair, ...] = ()


class Update(Request):
    run_id: str
    status: str
    end_time: int | None


class Nothing(Answer):
    pass


class Experiment(Answer):
    experiment_id: str


class FoundExperiment(Answer):
    experiment: Experiment


class Info(Answer):
    run_id: str
    status: str


class Told(Answer):
    info: Info


class Created(Answer):
    run: Told


class Page(Answer):
    runs: tuple[Told, ...] = ()


class Refusal(Answer):
    error_code: str = Field(max_length=100)
    message: str = ""


class NotAccepted(FleetError):
    """MLflow said no; `code` is its own word for why."""

    def __init__(self, message: str, code: str, advice: str | None = None) -> None:
        super().__init__(message, advice)
        self.code = code


def any_address(url: str) -> str:
    """No token is sent there, so plain http will do."""
    if not re.match(r"https?://[^/?#\s]+[^?#\s]*$", url):
        raise BadAddress(f"{url!r} is not an MLflow server's address.", "give one like http://127.0.0.1:5000")
    return url.rstrip("/")


class Tracking(Connection):
    """What is asked of one tracking server. Unreachable, BadAnswer, NotAccepted."""

    _checked = staticmethod(any_address)

    async def experiment(self, name: str) -> str:
        """The id of the one of that name, which is made where there is none."""
        try:
            query: Query = [("experiment_name", name)]
            found = await self._call(FoundExperiment, "GET", "experiments/get-by-name", query)
        except NotAccepted as error:
            if error.code != "RESOURCE_DOES_NOT_EXIST":
                raise
            made = await self._call(
                Experiment, "POST", "experiments/create", body=CreateExperiment(name=name)
            )
            return made.experiment_id
        return found.experiment.experiment_id

    async def export(self, experiment: str, run: Run) -> str:
        """The run's id there. One that was finished is left as it is, one that was begun is gone on with."""
        told = await self._find(experiment, run) or await self._begin(experiment, run)
        if told.status == "RUNNING":
            await self._log(told.run_id, run)
            ended = run.attempt.ended_at
            update = Update(
                run_id=told.run_id,
                status=ENDED[run.job.status],
                end_time=milliseconds(ended.timestamp()) if ended else None,
            )
            await self._call(Nothing, "POST", "runs/update", body=update)
        return told.run_id

    async def _find(self, experiment: str, run: Run) -> Info | None:
        keys = ("fleet.job_id", "fleet.attempt")
        wanted = " and ".join(f"tags.`{key}` = '{run.tags[key]}'" for key in keys)
        body = Search(experiment_ids=(experiment,), filter=wanted)
        page = await self._call(Page, "POST", "runs/search", body=body)
        return page.runs[0].info if page.runs else None

    async def _begin(self, experiment: str, run: Run) -> Info:
        body = CreateRun(
            experiment_id=experiment,
            run_name=run.job.name,
            start_time=milliseconds((run.attempt.started_at or run.attempt.created_at).timestamp()),
            tags=tuple(Pair(key=key, value=value) for key, value in run.tags.items()),
        )
        return (await self._call(Created, "POST", "runs/create", body=body, repeatable=False)).run.info

    async def _log(self, run_id: str, run: Run) -> None:
        """What was logged before is not doubled: MLflow keeps a point, and a parameter's value, once."""
        params = [Pair(key=key_of(key), value=value[:LONGEST_PARAM]) for key, value in run.params.items()]
        metrics = [
            Metric(key=key_of(one.name), value=one.value, timestamp=milliseconds(one.at), step=one.step)
            for one in run.points
        ]
        bodies = [LogBatch(run_id=run_id, params=tuple(some)) for some in chunks(params, MOST_PARAMS)]
        bodies += [LogBatch(run_id=run_id, metrics=tuple(some)) for some in chunks(metrics, MOST_METRICS)]
        for body in bodies:
            await self._call(Nothing, "POST", "runs/log-batch", body=body)

    async def _call(
        self,
        model: type[Model],
        method: str,
        path: str,
        query: Query = (),
        *,
        body: Request | None = None,
        repeatable: bool = True,
    ) -> Model:
        answer = await self._ask(method, f"/api/2.0/mlflow/{path}", query, body, repeatable=repeatable)
        try:
            return model.model_validate_json(answer.content)
        except ValidationError as error:
            raise self._stranger(answer.status_code) from error

    def _stranger(self, status: int) -> BadAnswer:
        return BadAnswer(
            f"What answered at {self.target.url}, with HTTP {status}, is no MLflow server.", CHECK
        )

    def _refusal(self, answer: Response) -> Exception:
        try:
            told = Refusal.model_validate_json(answer.content)
        except ValidationError:
            return self._stranger(answer.status_code)
        said = one_line(told.message) or told.error_code
        return NotAccepted(f"MLflow at {self.target.url} refused: {cut(said, LONGEST_SAID)}", told.error_code)

    def _unanswered(self, error: RequestError) -> Unreachable:
        why = str(error) or type(error).__name__
        return Unreachable(f"No answer from MLflow at {self.target.url}: {why}.", CHECK)


def all_ended(runs: Sequence[Run]) -> None:
    """NotExportable where one may still grow: a run that MLflow has is not touched again."""
    for run in runs:
        if run.job.status not in ENDED:
            raise NotExportable(f"{run.job.name} is {run.job.status}.", "run it again when the job has ended")


def key_of(name: str) -> str:
    """`name` in MLflow's letters, others as their number."""
    return UNFIT.sub(lambda found: f"_{ord(found[0]):x}_", name)[:LONGEST_KEY]


def milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def chunks(items: Sequence[T], most: int) -> list[Sequence[T]]:
    return [items[at : at + most] for at in range(0, len(items), most)]
