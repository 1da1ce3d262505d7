"""Rounding and the withholding of complementary cells."""

from fractions import Fraction
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.disclosure import protected, rounded

tables = st.tuples(st.integers(1, 6), st.integers(1, 6)).flatmap(
    lambda shape: st.tuples(
        st.just(shape[0]),
        st.just(shape[1]),
        st.lists(st.booleans(), min_size=shape[0] * shape[1], max_size=shape[0] * shape[1]),
    )
)


@given(st.integers(-(2**70), 2**70), st.integers(1, 1000))
def test_rounding_goes_to_the_nearest_multiple_and_keeps_the_order(number, base):
    assert rounded(number, base) == round(Fraction(number, base)) * base
    assert rounded(number, base) <= rounded(number + 1, base)


@given(tables)
def test_what_is_withheld_stays_so_and_protecting_twice_changes_nothing(table):
    rows, columns, withheld = table
    once = protected(withheld, rows, columns)
    assert len(once) == rows * columns
    assert all(after >= before for before, after in zip(withheld, once, strict=True))
    assert protected(once, rows, columns) == once
    assert any(once) == any(withheld)


@given(tables)
def test_no_withheld_cell_follows_from_true_margins(table):
    """Whoever knows every margin and every shown cell is left with more than one answer.

    A cell is determined by linear equations exactly when every solution of the homogeneous ones is
    zero there; an alternating rectangle is a solution that is not.
    """
    rows, columns, withheld = table
    hidden = protected(withheld, rows, columns)
    if rows == 1 or columns == 1:
        assert sum(hidden) != 1 or len(hidden) == 1
        return
    for row, column in product(range(rows), range(columns)):
        if hidden[row * columns + column]:
            assert any(
                hidden[row * columns + j]
                and hidden[i * columns + column]
                and hidden[i * columns + j]
                for i in range(rows)
                for j in range(columns)
                if i != row and j != column
            )


@pytest.mark.parametrize(
    ("withheld", "rows", "columns", "expected"),
    [
        # The only one of a line takes its neighbour with it.
        ("0100", 4, 1, "1100"),
        ("1000", 1, 4, "1100"),
        ("0110", 4, 1, "0110"),
        ("0", 1, 1, "0"),
        ("1", 1, 1, "1"),
        # One cell of a table takes three.
        ("100000000", 3, 3, "110110000"),
        # Two in a diagonal share the rectangle they span.
        ("100010000", 3, 3, "110110000"),
        # Three corners ask for the fourth only.
        ("110100000", 3, 3, "110110000"),
        ("000000000", 3, 3, "000000000"),
    ],
)
def test_as_few_cells_are_taken_along_as_can_be(withheld, rows, columns, expected):
    pattern = protected([flag == "1" for flag in withheld], rows, columns)
    assert "".join(str(int(hidden)) for hidden in pattern) == expected


def test_the_largest_table_is_protected_in_no_time():
    withheld = [cell % 65 == 0 for cell in range(4096)]
    assert sum(protected(withheld, 64, 64)) <= 4 * sum(withheld)
    assert all(protected([cell % 2048 < 1 for cell in range(4096)], 2, 2048)[:1])
