"""JSON as it goes out and as it is read: strict, bounded, with exact amounts."""

from decimal import Decimal
from typing import Any

import pytest

from wegetfinancing._converter import to_wire
from wegetfinancing._json import from_json, read_amount, to_json
from wegetfinancing.testing import financing_request


def test_json_is_ascii_only() -> None:
    assert to_json(to_wire(financing_request(first_name="Zoë 李"))).isascii()
    assert to_json({"a": "é😀"}) == b'{"a":"\\u00e9\\ud83d\\ude00"}'


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"\xef\xbb\xbf{}", "is not JSON"),
        (b"\xff", "is not UTF-8"),
        (b"NaN", "holds NaN or Infinity"),
        (b'{"a":-Infinity}', "holds NaN or Infinity"),
        (b"[1e999]", "holds NaN or Infinity"),
        (b'{"a":1,"a":2}', "names a member twice"),
        (b"[" * 100_000, "is nested too deeply"),
        (b"1" * 5000, "Exceeds the limit"),
    ],
)
def test_json_that_means_different_things_to_different_readers_is_refused(data: bytes, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as caught:
        from_json(data)
    assert caught.value.__context__ is None


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
@pytest.mark.parametrize("inside", [b"1", b"[]"])
def test_json_may_be_nested_a_hundred_deep(opening: bytes, closing: bytes, inside: bytes) -> None:
    levels = 99 if inside == b"[]" else 100
    assert from_json(opening * levels + inside + closing * levels) is not None
    with pytest.raises(ValueError, match="is nested too deeply"):
        from_json(opening * (levels + 1) + inside + closing * (levels + 1))


@pytest.mark.parametrize(
    ("value", "amount"),
    [("1640.94", "1640.94"), ("0", "0"), (1640, "1640"), (1640.94, "1640.94"), (0.1, "0.1")],
)
def test_amounts_are_read_from_text_and_numbers_alike(value: Any, amount: str) -> None:
    assert read_amount(value, "amount") == Decimal(amount)


@pytest.mark.parametrize(
    "value", [None, True, "", "1,640.94", "-1", -1, "1e3", "NaN", "١", " 1", "1" * 20, 1e30, [], {}]
)
def test_what_is_no_amount_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="has no amount of money as amount"):
        read_amount(value, "amount")
