"""Where keys stand: for whatever is valid TOML, the line that a person would point at."""

from __future__ import annotations

import tomllib

from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_protocol.toml_lines import KeyPath, Lines, locate


def test_a_document_with_everything():
    text = """\
# a comment with [brackets] and = signs
schema_version = 1
text = "one # two ] \\" \\n"
literal = 'C:\\[x]'
many = \"\"\"
[not.a.table]
not_a_key = 1
\"\"\"
raw = '''
a = 1'''
list = [
  "x", # ]
  [1, 2],
]
inline = { a = 1, b = [ { c = 2 } ] }
a.dotted."quoted key" = 5

[defaults] # tail
seed = 1
[hosts."pi.lan"]
priority = 1
[[jobs]]
name = "one"
  [jobs.hyper]
  lr = 0.1
[[jobs]]
name = "two"
hyper.lr = 0.2
"""
    tomllib.loads(text)
    assert locate(text).at == {
        ("schema_version",): 2,
        ("text",): 3,
        ("literal",): 4,
        ("many",): 5,
        ("raw",): 9,
        ("list",): 11,
        ("inline",): 15,
        ("a",): 16,
        ("a", "dotted"): 16,
        ("a", "dotted", "quoted key"): 16,
        ("defaults",): 18,
        ("defaults", "seed"): 19,
        ("hosts",): 20,
        ("hosts", "pi.lan"): 20,
        ("hosts", "pi.lan", "priority"): 21,
        ("jobs",): 22,
        ("jobs", 0): 22,
        ("jobs", 0, "name"): 23,
        ("jobs", 0, "hyper"): 24,
        ("jobs", 0, "hyper", "lr"): 25,
        ("jobs", 1): 26,
        ("jobs", 1, "name"): 27,
        ("jobs", 1, "hyper"): 28,
        ("jobs", 1, "hyper", "lr"): 28,
    }


def test_what_has_no_line_of_its_own_has_that_of_what_is_around_it():
    lines = locate("a = { b = { c = 1 } }\n")
    assert lines.of(("a", "b", "c")) == 1
    assert lines.of(("x",)) is None
    assert Lines().of(()) is None


def test_an_equals_sign_in_a_key():
    assert locate('"eq=" = """\nlines\n[x]\ny = "1" # z\n"""\nb = 1\n').at == {("eq=",): 1, ("b",): 6}


def test_windows_line_ends():
    assert locate('a = """\r\nx\r\n"""\r\nb = 1\r\n').at == {("a",): 1, ("b",): 4}


KEY = st.sampled_from(
    ["a", "b-c", "d_e", "7", "with space", "dot.ted", "hash#", "eq=", "br[ack]et", "ünï", "it's"]
)
SCALAR = st.sampled_from(
    [
        "1",
        "-0.5",
        "true",
        "1979-05-27T07:32:00Z",
        '"plain"',
        '"a # b = [c] {d} \\" e"',
        "'raw \\ # [ = \"'",
        '"""\nlines\n[x]\ny = "1" # z\n"""',
        '"""one \\"""two"""',
        '""""quoted""""',
        "'''\n[[x]]\n'' = 1\n'''",
        '""',
        "''",
    ]
)
ONE_LINE = SCALAR.filter(lambda text: "\n" not in text)
LISTS = st.lists(SCALAR, max_size=3).map(
    lambda items: "[ # [\n" + "".join(f"  {item}, # ]\n" for item in items) + "]"
)
INLINE = st.lists(ONE_LINE, max_size=2).map(
    lambda items: "{ " + ", ".join(f"k{number} = {item}" for number, item in enumerate(items)) + " }"
)
VALUE = st.one_of(
    SCALAR, LISTS, INLINE, st.lists(LISTS, max_size=2).map(lambda nested: f"[{', '.join(nested)}]")
)
NOISE = st.sampled_from(["", "\n", "# comment [x]\n", "   # a = 1\n\n", "\t\n"])
TABLE = st.lists(
    st.tuples(KEY, VALUE, NOISE, st.sampled_from(["", " ", "  "])), unique_by=lambda row: row[0], max_size=4
)


def quoted(key: str) -> str:
    return key if key.replace("-", "").replace("_", "").isalnum() and key.isascii() else f'"{key}"'


@settings(deadline=None, max_examples=300)
@given(
    top=TABLE,
    tables=st.lists(st.tuples(KEY, TABLE, NOISE), unique_by=lambda row: row[0], max_size=3),
    jobs=st.lists(st.tuples(TABLE, st.none() | TABLE, NOISE), max_size=4),
)
def test_each_key_is_where_it_was_written(
    top: list[tuple[str, str, str, str]],
    tables: list[tuple[str, list[tuple[str, str, str, str]], str]],
    jobs: list[tuple[list[tuple[str, str, str, str]], list[tuple[str, str, str, str]] | None, str]],
):
    written: dict[KeyPath, int] = {}
    text = ""

    def line() -> int:
        return text.count("\n") + 1

    def keys(path: KeyPath, rows: list[tuple[str, str, str, str]]) -> None:
        nonlocal text
        for key, value, noise, indent in rows:
            text += noise
            written[(*path, key)] = line()
            text += f"{indent}{quoted(key)} ={indent}{value} # {key}\n"

    keys((), [(f"top {key}", value, noise, indent) for key, value, noise, indent in top])
    for name, rows, noise in tables:
        text += noise
        written.setdefault(("tables",), line())
        written["tables", name] = line()
        text += f"[tables.{quoted(name)}] # [x]\n"
        keys(("tables", name), rows)
    for index, (rows, hyper, noise) in enumerate(jobs):
        text += noise
        written.setdefault(("jobs",), line())
        written["jobs", index] = line()
        text += "[[jobs]]\n"
        keys(("jobs", index), rows)
        if hyper is not None:
            written["jobs", index, "hyper"] = line()
            text += "  [ jobs . hyper ]\n"
            keys(("jobs", index, "hyper"), hyper)
    tomllib.loads(text)
    assert locate(text).at == written
