"""Tokens: made, read back, and told from what was cut short."""

from __future__ import annotations

import string
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_protocol.credentials import Kind, MalformedToken, base32, is_credential, make, parse

KINDS: tuple[Kind, ...] = get_args(Kind)
pins = st.none() | st.binary(min_size=32, max_size=32).map(base32)
tokens = st.builds(lambda kind, pin: str(make(kind, pin)), st.sampled_from(KINDS), pins)


@given(tokens)
def test_what_was_made_is_read_back(token):
    assert str(parse(token)) == token
    assert is_credential(token)


@given(tokens, st.data())
def test_one_wrong_or_missing_character_is_noticed(token, data):
    at = data.draw(st.integers(0, len(token) - 1))
    glyph = data.draw(st.sampled_from([one for one in string.printable if one != token[at]]))
    for wrong in (token[:at] + glyph + token[at + 1 :], token[:at], token[:at] + token[at + 1 :]):
        with pytest.raises(MalformedToken):
            parse(wrong)


@given(st.text())
def test_anything_else_is_no_token(text):
    with pytest.raises(MalformedToken):
        parse(text)


def test_its_secret_is_in_no_description_of_it():
    made = make("agent")
    assert made.secret not in repr(made)
    assert made.id in repr(made)
