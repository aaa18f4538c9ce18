from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from shardsynth.report.text import isolated, number, seconds, short_number, shown


@given(st.text(max_size=300))
def test_shown_text_is_one_short_line_without_control_or_direction_characters(text: str) -> None:
    safe = shown(text, 50)
    assert 0 < len(safe) <= 50 * 6
    for character in safe:
        assert unicodedata.category(character) not in ("Cc", "Zl", "Zp")
        assert unicodedata.bidirectional(character) not in (
            "LRE",
            "RLE",
            "LRO",
            "RLO",
            "PDF",
            "LRI",
            "RLI",
            "FSI",
            "PDI",
        )


def test_what_cannot_be_seen_is_written_out() -> None:
    assert shown("a\x00b\u202ec") == "a\\x00b\\u202ec"
    assert shown("") == "(empty text)"
    assert shown("   ") == "(3 spaces)"
    assert shown("x" * 10_000) == "x" * 119 + "…"
    assert shown("שלום") == "שלום"


def test_a_name_in_a_sentence_is_isolated() -> None:
    assert isolated("שלום") == "\u2068שלום\u2069"


def test_numbers_and_durations_are_plain() -> None:
    assert number(1234.5, 0.5) == "1,234.5"
    assert number(-0.0, 0.1) == "0"
    assert short_number(2_500_000, 500_000) == "2.5M"
    assert short_number(1500, 100) == "1,500"
    assert [seconds(s) for s in (0.04, 59.4, 61, 3600 * 2 + 600)] == ["0.0 s", "59 s", "1 min 01 s", "2 h 10 min"]
