"""The registry: every kind of computation a node can take part in.

Adding one is a file with its protocol and its row here. A change of what goes over the wire is a
new name ("private-sum/2"), so that an old and a new node never misread each other.
"""

from collections.abc import Mapping
from types import MappingProxyType

from privacy.aggregate import AGGREGATE
from privacy.cached import CACHED
from privacy.computation import CONSUMER, ConsumerSecrets, Inputs, Kind, Parameters
from privacy.errors import InputRejected
from privacy.intersection import BOTH, CARDINALITY_2, COUNT, INTERSECTION_2
from privacy.join import PRIVATE_SUM_2, PRIVATE_SUM_OWN
from privacy.join_hidden import PRIVATE_SUM_HIDDEN
from privacy.multiparty import MULTI_CARDINALITY, MULTI_INTERSECTION
from privacy.partial import PARTIAL
from privacy.private_sum import PRIVATE_SUM
from privacy.psi import CARDINALITY, INTERSECTION
from privacy.totals import TOTALS

__all__ = ["CONSUMER", "KINDS", "ConsumerSecrets", "Inputs", "Kind", "Parameters", "kind"]

_ALL = (
    INTERSECTION,
    INTERSECTION_2,
    CACHED,
    BOTH,
    COUNT,
    CARDINALITY,
    CARDINALITY_2,
    MULTI_INTERSECTION,
    MULTI_CARDINALITY,
    PRIVATE_SUM,
    PRIVATE_SUM_2,
    PRIVATE_SUM_OWN,
    PRIVATE_SUM_HIDDEN,
    AGGREGATE,
    TOTALS,
    PARTIAL,
)

KINDS: Mapping[str, Kind] = MappingProxyType({each.name: each for each in _ALL})


def kind(name: str) -> Kind:
    """Return the kind called `name`; InputRejected, naming those there are, for any other."""
    if name not in KINDS:
        raise InputRejected(f"no computation kind {name!r}; known: {', '.join(sorted(KINDS))}")
    return KINDS[name]
