"""What this library raises: a caller's mistake, a peer's mistake, and a forbidden transition."""


class ContractError(Exception):
    """Any refusal of this library; the message is one sentence without values from the input."""


class InputRejected(ContractError):
    """The caller passed something this library cannot work with; the message says what it wants."""


class ProtocolViolation(ContractError):
    """A peer sent what the protocol does not allow; the message names the field and the kind."""


class IllegalTransition(ProtocolViolation):
    """`message` from `actor` does not move a process that is in `state` (None: no process yet)."""

    def __init__(self, state: str | None, actor: str, message: str) -> None:
        where = "before the process exists" if state is None else f"in state {state}"
        super().__init__(f"{message} from the {actor.lower()} is not allowed {where}")
        self.state = state
        self.actor = actor
        self.message = message


class SuiteMissing(InputRejected):
    """A key's algorithm is known and the package that computes it is not installed here; the
    message says how to install it."""
