"""What the subject of each kind of process is called in log lines and explanations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

SUBJECTS: Final[Mapping[str, str]] = {
    "decide-transfer": "transfer",
    "transfer-step": "transfer",
    "move-rows": "transfer",
    "run-computation": "computation",
    "hand-out-signatures": "computation",
    "expire-computation": "computation",
    "gather-providers": "computation",
    "negotiation-step": "negotiation",
    "expire-negotiation": "negotiation",
    "deliver-return": "return",
    "tell-consent": "receipt",
}


def subject_name(kind: str) -> str:
    """The name of the subject's field for processes of this kind; `subject` where it has none."""
    return SUBJECTS.get(kind, "subject")
