from __future__ import annotations

from datetime import timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_protocol.events import Event
from fleet_protocol.states import JobStatus
from fleet_tui.query import (
    EVENTS,
    SORTS,
    WORKERS,
    FilterError,
    Heading,
    Query,
    Ranking,
    fingerprint,
    parse_filter,
    parsed,
)
from fleet_tui.store import EventRow, JobRow
from tests.tui.recorded import NOW, before, job, job_id, macro_f1, worker

ROWS = [
    JobRow(job("gbt-a", "completed", metrics=macro_f1(0.8, 0.7, 0.9), worker="pi")),
    JobRow(job("cnn-b", "running", worker="desk", started_at=before(7300))),
    JobRow(job("cnn-c", "failed", worker="desk", reason="RuntimeError: out of memory")),
    JobRow(job("mlp-d", priority=5), waiting="needs CUDA"),
    JobRow(job("gbt-e", "completed", metrics=macro_f1(0.9, 0.85, 0.95), worker="desk")),
]
EVERY = parse_filter("")
ID = ROWS[1].job.job_id


def names(query: Query) -> list[str]:
    known = {row.job.job_id: row.job.name for row in ROWS}
    return [known[entry] for entry in query.run(ROWS, NOW) if isinstance(entry, str)]


def matching(text: str) -> set[str]:
    test = parse_filter(text)
    return {row.job.name for row in ROWS if test(row, NOW)}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", {"gbt-a", "cnn-b", "cnn-c", "mlp-d", "gbt-e"}),
        ("CNN", {"cnn-b", "cnn-c"}),
        ("worker:desk gbt", {"gbt-e"}),
        ("gbt e", {"gbt-e"}),
        ("desk", set()),
        ("memory", set()),
        ("needs", set()),
        (ID[:4], {"cnn-b"}),
        (ID[:9].upper(), {"cnn-b"}),
        (ID, {"cnn-b"}),
        (ID[:3], set()),
        (ID[1:6], set()),
        (f"-{ID[:6]} cnn", {"cnn-c"}),
        ("state:failed,pending", {"cnn-c", "mlp-d"}),
        ("status:run", {"cnn-b"}),
        ("err~out.of", {"cnn-c"}),
        ("err:cuda", {"mlp-d"}),
        ("-model:gbt", {"cnn-b", "cnn-c", "mlp-d"}),
        ("-worker:desk", {"gbt-a", "mlp-d"}),
        ("age>2h", {"cnn-b"}),
        ("metric<0.85", {"gbt-a"}),
        ("metric>0.85", {"gbt-e"}),
        ("priority>0", {"mlp-d"}),
        ("state:", {"gbt-a", "cnn-b", "cnn-c", "mlp-d", "gbt-e"}),
        ("age>", {"gbt-a", "cnn-b", "cnn-c", "mlp-d", "gbt-e"}),
    ],
)
def test_filter_words(text: str, wanted: set[str]) -> None:
    assert matching(text) == wanted


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("colour:red", "no field 'colour'"),
        ("err~(", "no regular expression"),
        ("age>soon", "no number"),
        ("name>3", "no number"),
    ],
)
def test_what_cannot_be_read_says_why(text: str, said: str) -> None:
    with pytest.raises(FilterError, match=said):
        parse_filter(text)


@given(st.text(max_size=20))
def test_whatever_is_typed_is_a_filter_or_an_explained_mistake(text: str) -> None:
    try:
        answers = {parse_filter(text)(row, NOW) for row in ROWS}
    except FilterError as error:
        answers = {bool(str(error))}

    assert answers <= {True, False}


def test_attention_comes_first_and_the_queue_decides_among_equals() -> None:
    assert names(Query(EVERY)) == ["cnn-b", "cnn-c", "mlp-d", "gbt-a", "gbt-e"]


def test_the_best_metric_comes_first_and_none_last() -> None:
    assert names(Query(EVERY, "metric"))[:2] == ["gbt-e", "gbt-a"]


@given(st.sampled_from(list(SORTS)), st.booleans(), st.permutations(ROWS))
def test_an_order_does_not_depend_on_where_the_rows_came_from(
    sort: str, down: bool, rows: list[JobRow]
) -> None:
    assert Query(EVERY, sort, down).run(rows, NOW) == Query(EVERY, sort, down).run(ROWS, NOW)


def test_reversing_reverses_the_statuses() -> None:
    assert names(Query(EVERY, "status", descending=True))[0] in ("gbt-a", "gbt-e")


def failed(name: str, reason: str) -> JobRow:
    return JobRow(job(name, "failed", reason=reason))


def test_equal_errors_stand_under_one_heading_the_most_frequent_first() -> None:
    rows = [
        failed("a", "KeyError: 'x'"),
        failed("b", "ValueError: loss is nan at step 312"),
        failed("c", "ValueError: loss is nan at step 97"),
    ]
    entries = Query(EVERY, group=fingerprint).run(rows, NOW)

    assert [entry.count for entry in entries if isinstance(entry, Heading)] == [2, 1]
    assert isinstance(entries[0], Heading)
    assert "loss is nan" in entries[0].title
    assert {entries[1], entries[2]} == {rows[1].job.job_id, rows[2].job.job_id}


def test_paths_addresses_and_figures_do_not_tell_errors_apart() -> None:
    one = failed("a", "No such file: '/data/7/x' at 0x7f12")
    other = failed("b", "No such file: '/srv/y' at 0x99aa\nsecond line")

    assert fingerprint(one) == fingerprint(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("\n  OOM on 7f12ab34cd", "OOM on deadbee5"),
        (r"cannot open C:\data\x.npz: gone", "cannot open ../y/z.npz: gone"),
        ("lr=1e-3 is too high", "lr=3.0 is too high"),
        ("job 6ba7b810-9dad-11d1-80b4-00c04fd430c8", "job 123e4567-e89b-12d3-a456-426614174000"),
    ],
)
def test_what_differs_from_job_to_job_is_stripped(one: str, other: str) -> None:
    assert fingerprint(failed("a", one)) == fingerprint(failed("b", other))


def test_words_still_tell_errors_apart() -> None:
    prints = {fingerprint(failed("a", text)) for text in ("KeyError: decade", "KeyError: facade/x", "OOM")}
    assert len(prints) == 3


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", 2),
        ("pi", 1),
        ("model:cnn", 1),
        ("kind:fail agent", 1),
        ("age>1m", 1),
        ("err~nan", 1),
        ("-cnn", 1),
    ],
)
def test_events_and_workers_are_filtered_in_the_same_words(text: str, wanted: int) -> None:
    a = Event(event=1, at=before(90), kind="failed", actor="agent:x", detail="loss is nan", job=job("cnn-a"))
    b = Event(event=2, at=NOW, kind="joined", actor="operator", worker=worker("pi"))
    test = parsed(text, EVENTS)
    assert sum(test(EventRow.of(event), NOW) for event in (a, b)) == wanted
    keep = parsed("pi state:live model:cnn cores>4", WORKERS)
    assert keep(worker("pi"), NOW)
    assert not keep(worker("desk"), NOW)
    with pytest.raises(FilterError, match="no field 'prio"):
        parsed("prio:1", EVENTS)


def test_ages_are_of_waiting_running_or_what_it_took() -> None:
    row = JobRow(job("a", "completed", started_at=before(100), finished_at=before(40)))
    assert parse_filter("age<61s")(row, NOW + timedelta(days=2))
    assert row.job.status is JobStatus.COMPLETED


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize("down", [False, True])
def test_rows_that_are_replaced_one_by_one_stand_where_a_new_list_would_have_them(
    sort: str, down: bool
) -> None:
    luck = Random(1)
    rows: dict[str, JobRow] = {job_id(f"gbt-{n}"): JobRow(job(f"gbt-{n}")) for n in range(60)}
    query = Query(parse_filter("-state:cancelled"), sort, down)
    ranking = Ranking(query)

    for _ in range(200):
        for name in luck.sample(range(70), luck.choice((0, 1, 4, 20))):
            status, priority = luck.choice(tuple(JobStatus)).value, luck.choice((0, 0, 5))
            rows[job_id(f"gbt-{name}")] = JobRow(job(f"gbt-{name}", status, priority=priority))
            ranking.moved([job_id(f"gbt-{name}")])
        if luck.random() < 0.05:
            rows = dict(luck.sample(sorted(rows.items()), 50))
        assert ranking.ids(rows, NOW) == query.ids(rows.values(), NOW)
