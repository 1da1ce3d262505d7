"""Tables of totals against plain Python, at the edges of every bound, and against cheats."""

import statistics
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy import totals
from privacy.computation import CONSUMER, ConsumerSecrets, Inputs, Parameters
from privacy.disclosure import RELEASED
from privacy.errors import InputRejected, ProtocolViolation, Withheld
from privacy.paillier import PublicKey, generate_keypair
from privacy.role import Progress, Receive, Send, run_in_memory
from privacy.tables import decimal_text, table_of
from privacy.totals import MAX_PROVIDERS, TOTALS, Packing, packing_of

KEY = generate_keypair()
PUBLIC = KEY.public_key.to_hex()
GROUPS = ("east", "west", "north")


def parameters_of(min_cohort=0, groups=GROUPS, epsilon=None, **given) -> Parameters:
    return Parameters(min_cohort, PUBLIC, groups, epsilon, given)


def roles_of(inputs, parameters):
    parties = TOTALS.roles(len(inputs))
    rows = {**dict(zip(parties, inputs, strict=False)), CONSUMER: Inputs()}
    return {
        party: TOTALS.start(
            party,
            parties,
            rows[party],
            parameters,
            ConsumerSecrets(KEY) if party == CONSUMER else None,
        )
        for party in parties
    }


def table(inputs, parameters):
    return run_in_memory(roles_of(inputs, parameters))[CONSUMER].value


def rows(*cells) -> Inputs:
    """Rows given as (group, value) or (group, value, across)."""
    columns = list(zip(*cells, strict=True)) if cells else [(), (), ()]
    groups, values, *across = columns
    return Inputs((), tuple(values), tuple(groups), tuple(across[0]) if across else ())


def test_every_statistic_is_what_plain_python_computes():
    left = rows(("east", 1250), ("east", -300), ("west", 7))
    right = rows(("east", 999), ("north", 5), ("north", 5))
    asked = ("count", "sum", "mean", "variance")
    result = table([left, right], parameters_of(statistics=asked, decimals=2))
    east = [Decimal("12.50"), Decimal("-3.00"), Decimal("9.99")]
    assert result["cells"][0] == {
        "group": "east",
        "count": 3,
        "sum": "19.49",
        "mean": "6.49666667",
        "variance": decimal_text(Fraction(statistics.variance(east)), 8),
    }
    assert result["cells"][1] == {
        "group": "west",
        "count": 1,
        "sum": "0.07",
        "mean": "0.07000000",
        "variance": None,
    }
    assert result["cells"][2]["variance"] == "0.00000000"
    assert result["withheld"] == []


@settings(max_examples=10, deadline=None)
@given(
    st.lists(
        st.lists(
            st.tuples(st.sampled_from(GROUPS), st.integers(-1023, 1023), st.sampled_from("abc")),
            max_size=12,
        ),
        min_size=2,
        max_size=4,
    ),
    st.integers(0, 2),
    st.sampled_from([{"across": ("a", "b", "c")}, {"binEdges": (-5, 0, 100)}, {}]),
)
def test_any_table_over_any_providers_is_what_the_reference_computes(cells, min_cohort, shape):
    inputs = [rows(*each) for each in cells]
    if "across" not in shape:
        inputs = [replace(each, across=()) for each in inputs]
    asked = parameters_of(min_cohort, valueBits=10, statistics=("sum", "mean", "variance"), **shape)
    reference = dict(zip(TOTALS.roles(len(inputs)), inputs, strict=False))
    try:
        expected = TOTALS.reference(reference, asked)
    except Withheld:
        with pytest.raises(Withheld):
            table(inputs, asked)
    else:
        assert table(inputs, asked) == expected


def test_a_histogram_counts_a_value_at_an_edge_in_the_bin_that_begins_there():
    asked = parameters_of(groups=("all",), binEdges=(0, 10), statistics=("count",))
    result = table([rows(("all", -1), ("all", 0)), rows(("all", 9), ("all", 10))], asked)
    assert result["cells"] == [
        {"group": "all", "from": None, "below": 0, "count": 1},
        {"group": "all", "from": 0, "below": 10, "count": 2},
        {"group": "all", "from": 10, "below": None, "count": 1},
    ]


def test_a_small_cell_of_a_cross_table_takes_the_rest_of_a_rectangle_with_it():
    full = [(g, 1, a) for g in GROUPS for a in ("a", "b", "c") for _ in range(3)]
    left = rows(*[cell for cell in full if cell[::2] != ("east", "a")], ("east", 1, "a"))
    result = table([left, rows(*full)], parameters_of(3, across=("a", "b", "c")))
    assert result["withheld"] == [
        {"group": g, "across": a} for g in ("east", "west") for a in ("a", "b")
    ]
    assert [cell["count"] for cell in result["cells"]] == [6] * 5


def test_what_is_withheld_never_leaves_a_provider():
    """No ciphertext of any party holds a part of a cell that is withheld in the end."""
    inputs = [
        rows(*[("east", 70)] * 5, *[("west", 1)] * 5, *[("north", 1)] * 5),
        rows(("east", 70), *[("west", 1)] * 5, *[("north", 1)] * 5),
        rows(*[("east", 70)] * 5, *[("west", 1)] * 5, *[("north", 1)] * 5),
    ]
    parameters = parameters_of(5)
    sent = []
    roles = roles_of(inputs, parameters)
    run_in_memory({party: watching(role, sent) for party, role in roles.items()})
    packing = packing_of(table_of(parameters), KEY.public_key)
    passed = [frame.payload for frame in sent if frame.name == "totals"]
    assert len(passed) == 2
    for addends, payload in enumerate(passed, 1):
        plaintext = KEY.decrypt(KEY.public_key.parse_ciphertext(payload, "a provider"))
        # East is withheld as too small, west along with it: one cell is left.
        assert packing.unpack([plaintext], 1, addends) == [(5 * addends, 5 * addends)]


def watching(role, sent):
    payload = None
    try:
        while True:
            step = role.send(payload)
            if isinstance(step, Send):
                sent.append(step)
            payload = yield step
    except StopIteration as ended:
        return ended.value


def test_one_party_after_the_other_makes_ciphertexts_nobody_has_seen():
    sent = []
    for _ in range(2):
        roles = roles_of([rows(("east", 1)), rows()], parameters_of())
        run_in_memory({party: watching(role, sent) for party, role in roles.items()})
    totals_sent = [frame.payload for frame in sent if frame.name in ("totals", "result")]
    assert len(totals_sent) == len(set(totals_sent)) == 4


@pytest.mark.parametrize("bits", [1, 40, 63])
def test_a_value_at_its_bound_is_counted_and_one_past_it_refused_before_encryption(bits):
    largest = 2**bits - 1
    asked = parameters_of(valueBits=bits, statistics=("sum", "variance"))
    result = table([rows(("east", largest)), rows(("east", -largest))], asked)
    assert result["cells"][0]["sum"] == "0"
    with pytest.raises(InputRejected, match="value") as refused:
        run_in_memory(roles_of([rows(("east", largest + 1)), rows()], asked))
    assert bits == 1 or str(largest + 1) not in str(refused.value)


@pytest.mark.parametrize("bits", [2048, 3072])
@pytest.mark.parametrize("given", [{}, {"valueBits": 1, "decimals": 9, "rounding": 1000}])
def test_sixteen_full_parts_fill_no_slot_and_one_more_is_refused(bits, given):
    key = PublicKey((1 << (bits - 1)) + 1)
    packing = packing_of(table_of(parameters_of(**given)), key)
    full = [packing.limits] * packing.cells
    (plaintext,) = packing.pack(full)
    assert MAX_PROVIDERS * plaintext <= key.max_value
    empty = [tuple(-limit for limit in packing.limits)] * packing.cells
    for parts in (full, empty):
        (one,) = packing.pack(parts)
        unpacked = packing.unpack([16 * one], packing.cells, 16)
        assert unpacked == [tuple(16 * each for each in part) for part in parts]
    for beyond in (1, -1):
        part = (packing.limits[0], beyond * (packing.limits[1] + 1))
        with pytest.raises(InputRejected, match="beyond"):
            packing.pack([part])


def test_cells_lie_in_a_plaintext_as_every_node_of_this_kind_expects():
    """What goes over the wire: a change here is a new name of the kind."""
    packing = packing_of(table_of(parameters_of(valueBits=8)), KEY.public_key)
    assert (packing.limits, packing.widths, packing.cells) == (
        ((1 << 24) + 1, (255 << 24) + 1),
        (30, 37),
        30,
    )
    assert packing.pack([(3, -2), (0, 5)]) == [
        (3 + 16777217) + ((4278190081 - 2) << 30) + (16777217 << 67) + ((4278190081 + 5) << 97)
    ]


@settings(max_examples=40)
@given(st.data())
def test_packing_adds_up_whatever_the_parts(data):
    limits = (3, 1000, 10**20)
    packing = Packing(limits, 400)
    part = st.tuples(*(st.integers(-limit, limit) for limit in limits))
    addends = data.draw(st.integers(1, MAX_PROVIDERS))
    parts = data.draw(
        st.lists(st.lists(part, min_size=7, max_size=7), min_size=addends, max_size=addends)
    )
    plaintexts = [sum(each) for each in zip(*map(packing.pack, parts), strict=True)]
    assert len(plaintexts) == packing.plaintexts(7)
    expected = [tuple(map(sum, zip(*cell, strict=True))) for cell in zip(*parts, strict=True)]
    assert packing.unpack(plaintexts, 7, addends) == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sum": True}, "no setting 'sum'"),
        ({"statistics": ("median",)}, "count, sum, mean, variance"),
        ({"statistics": ("sum", "sum")}, "each of them once"),
        ({"statistics": "sum"}, "a list of texts"),
        ({"valueBits": 64}, "valueBits is to be an integer from 1 to 63"),
        ({"valueBits": True}, "valueBits"),
        ({"decimals": 10}, "decimals"),
        ({"decimals": "2"}, "decimals"),
        ({"rounding": 1}, "rounding"),
        ({"rounding": 5, "statistics": ("variance",)}, "variance"),
        ({"binEdges": (1, 1)}, "ascending"),
        ({"binEdges": (2, 1)}, "ascending"),
        ({"binEdges": (1, "2")}, "ascending"),
        ({"binEdges": (True,)}, "ascending"),
        ({"binEdges": (2**53,)}, "ascending"),
        ({"binEdges": ()}, "a list of integers"),
        ({"across": ("a", 1)}, "a list of texts"),
        ({"across": ("a",), "binEdges": (1,)}, "not both"),
        ({"across": tuple(map(str, range(1366)))}, "at most 4096 cells, got 4098"),
    ],
)
def test_a_setting_that_cannot_be_used_is_refused_by_name(given, message):
    with pytest.raises(InputRejected, match=message):
        TOTALS.verify_parameters(parameters_of(**given))


@pytest.mark.parametrize(
    ("bad", "given", "message"),
    [
        (rows(("east", 1, "z")), {"across": ("a",)}, "1 rows have a value that is not listed"),
        (rows(("east", 1)), {"across": ("a",)}, "so it is needed"),
        (rows(("east", 1, "a")), {}, "no cross-table"),
        (rows(("moon", 1)), {}, "public list"),
    ],
)
def test_rows_that_fit_no_cell_are_refused_without_showing_them(bad, given, message):
    with pytest.raises(InputRejected, match=message):
        run_in_memory(roles_of([bad, rows()], parameters_of(**given)))


def test_rounded_parts_are_told_and_checked():
    inputs = [rows(*[("east", 1001)] * 12), rows(*[("east", 3)] * 13)]
    result = table(inputs, parameters_of(rounding=10, decimals=1))
    # 12 and 13 rows become 10 each; 1201.2 and 3.9 become 1200 and 0.
    assert result["cells"][0] == {"group": "east", "count": 20, "sum": "1200.0"}


# What a cheat or an accident on the way can put in place of a frame, and the reason it is named by.


def forging(role, name, forge):
    """Give the role another frame `name` than the one that was sent."""
    step, payload = None, None
    try:
        while True:
            step = role.send(payload)
            payload = yield step
            if isinstance(step, Receive) and step.name == name:
                payload = forge(payload)
    except StopIteration as ended:
        return ended.value


FULL = [rows(*[(g, 5) for g in GROUPS for _ in range(3)])] * 3


def encrypted(*cells, addends=3):
    packing = packing_of(table_of(parameters_of()), KEY.public_key)
    shifted = [
        tuple(each + limit * (addends - 1) for each, limit in zip(c, packing.limits, strict=True))
        for c in cells
    ]
    packed = sum(
        (each + limit) << (cell * sum(packing.widths) + sum(packing.widths[:slot]))
        for cell, part in enumerate(shifted)
        for slot, (each, limit) in enumerate(zip(part, packing.limits, strict=True))
    )
    return KEY.public_key.encode(KEY.public_key.encrypt_plain(packed))


@pytest.mark.parametrize(
    ("party", "name", "frame", "message"),
    [
        ("provider-2", "flags", b"\x00" * 2, "no list of 3 flags"),
        ("provider-2", "flags", b"\x00\x02\x00", "no list of 3 flags"),
        ("provider-2", "totals", b"", "1 ciphertexts of 512 expected"),
        ("provider-2", "totals", b"\xff" * 512, "no ciphertext of this key"),
        ("provider-1", "pattern", RELEASED + b"\x01\x00\x00", "left a withheld cell alone"),
        ("provider-1", "pattern", RELEASED + b"\x01\x01\x01", "every cell is withheld"),
        (
            CONSUMER,
            "result",
            RELEASED + b"\x01\x00\x00" + encrypted(),
            "left a withheld cell alone",
        ),
        (CONSUMER, "result", RELEASED + b"\x00\x00\x00", "0 bytes, 1 ciphertexts"),
        (CONSUMER, "result", RELEASED + bytes(3) + encrypted((10**9, 5)), "bounds do not allow"),
        (
            CONSUMER,
            "result",
            RELEASED + bytes(3) + encrypted(*[(9, 5)] * 4),
            "not packed as agreed",
        ),
        (CONSUMER, "result", RELEASED + bytes(3) + encrypted(*[(0, 5)] * 3), "no rows can have"),
        (CONSUMER, "result", RELEASED + bytes(3) + encrypted(*[(-1, 0)] * 3), "no rows can have"),
        (CONSUMER, "result", RELEASED + bytes(3) + encrypted(*[(1, 0)] * 3), "below the agreed"),
    ],
    # No ciphertext is the same twice, and names of tests have to be.
    ids=lambda value: value if isinstance(value, str) else "frame",
)
def test_a_forged_frame_is_a_violation_that_says_what_is_wrong(party, name, frame, message):
    roles = roles_of(FULL, parameters_of(3))
    roles[party] = forging(roles[party], name, lambda _: frame)
    with pytest.raises(ProtocolViolation, match=message):
        run_in_memory(roles)


def test_a_last_provider_that_shows_what_was_withheld_is_found_by_who_withheld_it():
    roles = roles_of([rows(("east", 1)), FULL[0], FULL[0]], parameters_of(3))
    roles["provider-1"] = forging(roles["provider-1"], "pattern", lambda _: RELEASED + bytes(3))
    with pytest.raises(ProtocolViolation, match="does not withhold what it was told to"):
        run_in_memory(roles)


def test_sums_of_squares_that_contradict_the_sums_are_a_violation():
    with pytest.raises(ProtocolViolation, match="no rows can have"):
        totals._verify_moments(
            table_of(parameters_of(statistics=("variance",))), (2, 10, 49), 9, "x"
        )


# Noise.

EPSILON = Decimal(1)


def test_noise_is_in_every_part_before_it_leaves():
    inputs = [rows(*[("east", 5)] * 40)] * 2
    asked = parameters_of(epsilon=EPSILON, valueBits=3)
    told = [
        (cell["count"], cell["sum"])
        for _ in range(4)
        for cell in table(inputs, asked)["cells"]
        if cell["group"] == "east"
    ]
    # Scale 2 for a count and 14 for a sum, twice each: all alike has odds below one in a million.
    assert len(set(told)) > 1
    assert all(abs(count - 80) < 100 and abs(int(total) - 400) < 1000 for count, total in told)


def test_each_providers_noise_is_that_of_the_whole_epsilon():
    """Whoever takes away all other parts is left with noise of scale 1 / epsilon at least."""
    asked = parameters_of(epsilon=EPSILON, statistics=("count",), groups=("all",))
    shape = table_of(asked)
    counted = totals.tally_of(shape, [rows(*[("all", 0)] * 30)])
    draws = [totals.part_of(shape, counted, asked).moments[0][0] - 30 for _ in range(600)]
    # The mean of 600 has a deviation of 0.05.
    assert sum(map(abs, draws)) / 600 == pytest.approx(0.85, abs=0.3)


def test_with_noise_an_empty_cell_is_withheld_like_a_small_one():
    many = [("east", 1)] * 200 + [("west", 1)] * 200
    asked = parameters_of(
        20, epsilon=EPSILON, statistics=("count",), groups=("east", "west", "north", "south")
    )
    result = table([rows(*many), rows(*many, ("north", 1))], asked)
    assert [cell["group"] for cell in result["cells"]] == ["east", "west"]
    assert [cell["group"] for cell in result["withheld"]] == ["north", "south"]


def test_with_noise_a_bound_has_to_be_declared_where_values_are_added():
    with pytest.raises(InputRejected, match="declare valueBits"):
        TOTALS.verify_parameters(parameters_of(epsilon=EPSILON))
    TOTALS.verify_parameters(parameters_of(epsilon=EPSILON, statistics=("count",)))
    with pytest.raises(InputRejected, match="epsilon"):
        TOTALS.verify_parameters(parameters_of(epsilon=Decimal(11), statistics=("count",)))


def test_noise_beyond_a_slot_is_clipped_and_stays_rounded():
    least = Decimal("0.000001")
    asked = parameters_of(epsilon=least * 2, valueBits=4, rounding=7)
    result = table([rows(("east", 1)), rows()], asked)
    assert all(cell["count"] % 7 == 0 and int(cell["sum"]) % 7 == 0 for cell in result["cells"])


def test_progress_counts_rows_and_ciphertexts():
    seen = []
    roles = roles_of([rows(*[("east", 1)] * 5), rows()], parameters_of())

    def noting(role):
        payload = None
        try:
            while True:
                step = role.send(payload)
                if isinstance(step, Progress):
                    seen.append(step.done)
                payload = yield step
        except StopIteration as ended:
            return ended.value

    run_in_memory({party: noting(role) for party, role in roles.items()})
    assert sorted(seen) == [0, 1, 5]
