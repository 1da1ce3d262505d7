"""Small sets against a large one that is masked once and then kept, changed only where rows change.

Kind `psi-cached/1`: the consumer learns which of its own identifiers the provider, `sender`, has
too. Scheme: Huberman, Franklin, Hogg 1999, as in `privacy.intersection`, with keys that are kept:
the sender's s and the consumer's b, both sealed at rest. The sender keeps T = {H(x)^(sb)},
shortened, for its own x, and cannot tell which element of T is which x, as it got them sorted.

    1. consumer -> sender   hello     size of its set, digest of what it thinks both have in common
    2. sender -> consumer   hello     "withheld", or what to do: nothing, a change, all afresh
       afresh:
    3. sender -> consumer   masked    H(x)^s, ascending in each frame
    4. consumer -> sender   raised    the same to the power of b, shortened, ascending in all frames
       then, and from the second time on at once:
    5. consumer -> sender   query     H(y)^b, ascending
    6. sender -> consumer   result    "withheld", or one bit for each point of 5: whether its power
                                      of s is in T

The sender sees in 5 which points match, and so the size, before it discloses anything. It could
send the raised points themselves, for the consumer to compare. Bits tell the consumer less: without
any H(y)^s it cannot find out from an old T whether y was in an earlier version of the set.

Changed rows. If single rows moved in and out of T, the sender would learn which element of T
belongs to which of these rows, and with it who is asked about, more with every change. So T has two
parts, a base under b and a recent part under r, and what moves is mixed with rows that stay:

    3a. sender -> consumer  leaving   H(x)^s of those that leave the base: what was removed from it,
                                      and others that go to the recent part, 1,024 or none
    3b. sender -> consumer  recent    H(x)^s of the whole recent part, 1,024 at least
    4a. consumer -> sender  left      3a to the power of b, by which the sender takes them out of T
    4b. consumer -> sender  raised    3b to the power of a new r: the recent part of T
    5a. consumer -> sender  query     besides H(y)^b now H(y)^r, each ascending, so that the sender
                                      cannot tell which two belong together

So an element of T is one of at least 1,024 rows. When the recent part has grown to a sixteenth of
all, or the set is too small to mix, all is done afresh under new keys; so it is if either side has
lost its part of the cache. What remains is said in the kind's `leakage`.

The protocol holds for semi-honest parties. A consumer that does not follow it cannot make T larger
than the sender's set, match one element of T twice, or put into T what it was not sent, as it never
learns a point H(y)^s. It may raise parts of the set under k different keys and put one person into
its query under each, as in `privacy.intersection`, with the same chance of 1/k, here once for all
runs under one key. Against that there are budgets of uses and evidence.
"""

from collections.abc import Mapping

from privacy.cached.consumer import start_consumer
from privacy.cached.frames import MAX_IDENTIFIERS, SENDER
from privacy.cached.rows import SIZES, Sizes
from privacy.cached.sender import start_sender
from privacy.computation import CONSUMER, Inputs, Kind, Parameters, RoleContext
from privacy.disclosure import verify_cohort
from privacy.role import JsonValue, Role

__all__ = ["CACHED", "Sizes", "start_cached"]


def start_cached(context: RoleContext, sizes: Sizes = SIZES) -> Role:
    """Return the role of this party, not yet begun."""
    return (start_sender if context.role == SENDER else start_consumer)(context, sizes)


def _in_clear(inputs: Mapping[str, Inputs], parameters: Parameters) -> JsonValue:
    common = set(inputs[SENDER].identifiers) & set(inputs[CONSUMER].identifiers)
    verify_cohort(len(common), parameters.min_cohort)
    return {"count": len(common), "identifiers": sorted(common)}


CACHED = Kind(
    name="psi-cached/1",
    title="Which of the consumer's own people or things the provider knows too, again and again "
    "against one large set",
    title_zh="消费方自有名单中,提供方也有的人或物(对同一大集合反复查询,缓存加速)",
    leakage={
        SENDER: "How many distinct identifiers the consumer asks about and how many are common, "
        "even when that is withheld, but not which. As keys are kept between runs, it notices that "
        "it is asked again about the same identifier or list, and which runs have a match in "
        "common; a match is any one of at least 1,024 of its rows, or of all where it has fewer. "
        "But if a few of its rows change, and so does the number of matches of a list that comes "
        "again, it can conclude which of these rows are on that list. It applies the minimum "
        "cohort to everything together, before any of it can be read.",
        CONSUMER: "Which of its own identifiers the sender has too; how many distinct identifiers "
        "the sender has, and how many were added and removed since the last run, even when the "
        "result is withheld. It may bring identifiers that it only guessed, so the cohort limits "
        "probing and does not exclude it.",
    },
    result={SENDER: '{"count": n}', CONSUMER: '{"count": n, "identifiers": [sorted]}'},
    columns={SENDER: ("identifier",), CONSUMER: ("identifier",)},
    providers=(1, 1),
    needs_key=False,
    max_rows=MAX_IDENTIFIERS,
    party_names=lambda _: (SENDER,),
    start_role=start_cached,
    compute_in_clear=_in_clear,
    caches=True,
)
