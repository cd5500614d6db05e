"""One format for each kind of number."""

import math

import pytest

from swbench.formatting import FORMATS, exponent, number, precision, significant, status_words


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (4.14311, "gflops", "4.143"),
        (4.18541, "gflops", "4.185"),
        (4.18812, "gflops", "4.188"),
        (274.72531, "gflops", "274.73"),
        (275.29916, "gflops", "275.30"),
        (275.33617, "gflops", "275.34"),
        (275.68372, "gflops", "275.68"),
        (275.74552, "gflops", "275.75"),
        (0.041234, "gflops", "0.04123"),
        (0.2104321, "seconds", "0.2104"),
        (17.6123, "seconds", "17.61"),
        (0.0071234, "seconds", "0.007123"),
        (0.0000132, "seconds", "1.320e-5"),
        (13.02e-6, "microseconds", "13.02"),
        (1234.4e-6, "microseconds", "1234"),
        (1.2456, "ratio", "1.246"),
        (50.428, "ratio", "50.43"),
        (1.2e-7, "error", "1.2e-7"),
        (0.0, "error", "0"),
        (0.125, "share", "12.5 %"),
        (0.0, "share", "0 %"),
        (25_557_032.0, "millions", "25.56"),
        (2**20 * 3, "mebibytes", "3.000"),
        (7.0, "count", "7"),
    ],
)
def test_number_is_formatted_by_its_kind(value, kind, text):
    assert number(value, kind) == text


def test_every_kind_formats_zero_and_nonfinite_values():
    for kind in FORMATS:
        assert float(number(0.0, kind).removesuffix(" %")) == 0
        assert number(math.nan, kind) == "nan"
        assert number(math.inf, kind) == "inf"


@pytest.mark.parametrize("value", [1e-9, 0.00012, 0.5, 3.14159, 271.8, 12345.6, 9.9e8, -0.5])
def test_significant_digits_keep_the_value(value):
    assert float(significant(value)) == pytest.approx(value, rel=6e-4)
    assert float(exponent(value)) == pytest.approx(value, rel=6e-2)


def test_unknown_status_is_shown_without_control_characters():
    assert status_words("out_of_memory") == "out of memory"
    assert status_words("new\x1b[2J") == "new\\x1b[2J"


@pytest.mark.parametrize(
    ("half_width", "text"),
    [
        (0.0123, "±1.2 %"),
        (0.00012, "±0.012 %"),
        (0.098, "±9.8 %"),
        (0.52, "±52 %"),
        (1.5, "±150 %"),
        (12.3, "±1200 %"),
    ],
)
def test_a_precision_is_never_an_exponent(half_width, text):
    assert precision(half_width) == text
