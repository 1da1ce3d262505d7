"""What can go wrong in a private computation, by whose fault it is."""


class PrivacyError(Exception):
    """Any reason why a private computation gives no result."""


class ProtocolViolation(PrivacyError):
    """A peer sent something the protocol does not allow. The run is over; blame the peer."""


class InputRejected(PrivacyError):
    """The caller gave inputs or parameters that this computation cannot take."""


class Withheld(PrivacyError):
    """Disclosure control held the result back.

    `rule` names the clause that did it, for example "ds:minCohort". By how much the result missed
    the rule is not told: that number would itself be a result.
    """

    def __init__(self, rule: str) -> None:
        super().__init__(f"the result is held back by the rule {rule}")
        self.rule = rule

    def __reduce__(self) -> tuple[type["Withheld"], tuple[str]]:
        # A role may run in another process; the error must survive the way back.
        return (Withheld, (self.rule,))
