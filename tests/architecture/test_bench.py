from __future__ import annotations

import json

from bench.figure import Figure


def test_a_figure_is_one_line_with_its_peer_and_ratio():
    peer = Figure("plain sqlite3 commits", 1000, "1/s")
    assert json.loads(Figure("claims", 1234.56, "1/s", peer).line()) == {
        "figure": "claims",
        "value": 1235.0,
        "unit": "1/s",
        "against": "plain sqlite3 commits: 1000 1/s",
        "ratio": 1.235,
    }


def test_without_a_peer_there_is_no_ratio():
    figure = json.loads(Figure("install", 26.1, "s").line())
    assert figure["against"] is None
    assert figure["ratio"] is None
