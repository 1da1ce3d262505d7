"""Totals over those providers that are there: aggregate/2 with a list of who takes part.

Before anything is counted the consumer tells every provider who is there; each checks that it is
among them and that they are enough, and from then on they run aggregate/2 by themselves. A provider
that is missing later ends the run. Which of them are there is the consumer's word: it can leave one
out at will, as it could by not naming it in the order. That is why agreements have to permit this
kind by its name: a total with a provider and one without it differ by that provider's part.
"""

from collections.abc import Mapping
from dataclasses import replace

from privacy.computation import CONSUMER, Inputs, Parameters, RoleContext
from privacy.errors import InputRejected, ProtocolViolation
from privacy.role import JsonValue, Role, Steps, receive, send
from privacy.totals import MAX_PROVIDERS, TOTALS

LEAST_SETTING = "leastProviders"


def least_providers(parameters: Parameters) -> int:
    """How many providers there have to be: the setting `leastProviders`, 2 where it is left out.

    Raises InputRejected outside 2 to 16.
    """
    least = parameters.settings.get(LEAST_SETTING, 2)
    if type(least) is not int or not 2 <= least <= MAX_PROVIDERS:
        raise InputRejected(
            f"parameters: {LEAST_SETTING} is a whole number from 2 to {MAX_PROVIDERS}"
        )
    return least


def _of_totals(parameters: Parameters) -> Parameters:
    """The parameters as aggregate/2 knows them."""
    settings = {n: value for n, value in parameters.settings.items() if n != LEAST_SETTING}
    return replace(parameters, settings=settings)


def _check_settings(parameters: Parameters) -> None:
    least_providers(parameters)
    TOTALS.check_settings(_of_totals(parameters))


def _agree_on_present(context: RoleContext) -> Steps[tuple[str, ...]]:
    """Learn from the consumer, or as the consumer tell, which providers take part."""
    if context.role == CONSUMER:
        providers = tuple(p for p in context.providers if p in (context.present or context.parties))
        if len(providers) < least_providers(context.parameters):
            raise InputRejected(
                f"only {len(providers)} of {len(context.providers)} providers are there; "
                f"{least_providers(context.parameters)} are asked for"
            )
        flags = bytes(provider in providers for provider in context.providers)
        for provider in providers:
            yield from send(provider, "present", flags)
        return providers
    flags = yield from receive(CONSUMER, "present", len(context.providers))
    if len(flags) != len(context.providers) or any(flag > 1 for flag in flags):
        raise ProtocolViolation(f"{CONSUMER} sent no list of who is there")
    providers = tuple(p for p, flag in zip(context.providers, flags, strict=True) if flag)
    if context.role not in providers or len(providers) < least_providers(context.parameters):
        raise ProtocolViolation(f"{CONSUMER} named too few providers, or left us out")
    return providers


def _start(context: RoleContext) -> Role:
    providers = yield from _agree_on_present(context)
    parties = (*providers, CONSUMER)
    there = replace(context, parties=parties, parameters=_of_totals(context.parameters))
    outcome = yield from TOTALS.start_role(there)
    if isinstance(outcome.value, Mapping):
        outcome = replace(outcome, value={"providers": list(providers), **outcome.value})
    return replace(outcome, parties=parties)


def _in_clear(inputs: Mapping[str, Inputs], parameters: Parameters) -> JsonValue:
    value = TOTALS.compute_in_clear(inputs, _of_totals(parameters))
    assert isinstance(value, Mapping)
    return {"providers": [party for party in inputs if party != CONSUMER], **value}


PARTIAL = replace(
    TOTALS,
    name="aggregate-partial/1",
    title="Tables of totals over those of several providers that are there",
    title_zh="在场的多个提供方合计的统计表(允许个别提供方缺席)",
    leakage={
        "provider": TOTALS.leakage["provider"] + " And which providers take part.",
        CONSUMER: TOTALS.leakage[CONSUMER] + " It learns which providers take part, and says so: a "
        "total with a provider and one without it differ by that provider's part.",
    },
    result={
        "provider": "nothing",
        CONSUMER: '{"providers": [role, …], as aggregate/2 of these}',
    },
    start_role=_start,
    compute_in_clear=_in_clear,
    settings=(*TOTALS.settings, LEAST_SETTING),
    check_settings=_check_settings,
    partial=True,
)
