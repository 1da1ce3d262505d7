"""The private sum over the caller's own two files: any CSV or Parquet."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import connectors.errors
from connectors.source import open_source
from connectors.table import extract
from connectors.use import Use
from dataspace.demo import truth
from dataspace.demo.screen import Screen
from dataspace.demo.space import LocalSpace
from dataspace.demo.story import PURPOSE, Story, Told
from dataspace.errors import InputRejected
from dataspace.settings import ParticipantKind


@dataclass(frozen=True)
class OwnFiles:
    """Two files, their identifier columns, and the column of the right one to sum."""

    left: Path
    left_id: str
    right: Path
    right_id: str
    right_value: str
    canonicaliser: str
    decimals: int
    min_cohort: int

    def verify(self) -> None:
        """Read both files before anything is started, so that a wrong one costs no waiting.

        Raises InputRejected: what is wrong with which file, and the remedy.
        """
        use = Use(purpose=PURPOSE, recipient="check", at=datetime.now(UTC))
        for path, identifier, value in (
            (self.left, self.left_id, None),
            (self.right, self.right_id, self.right_value),
        ):
            try:
                extract(
                    open_source(str(path)),
                    identifier=identifier,
                    value=value,
                    group=None,
                    canonicaliser=self.canonicaliser,
                    use=use,
                    scale=self.decimals,
                )
            except connectors.errors.InputRejected as err:
                raise InputRejected(
                    str(err),
                    remedy="correct the file or the column's name; for values such as 12.50 give "
                    "--decimals 2",
                ) from err


def tell_own_files(space: LocalSpace, own: OwnFiles, screen: Screen) -> Told:
    """Two providers with the caller's files, a consumer, one private sum beside a plain join."""
    story = Story(space, own.left.parent, screen, min_cohort=own.min_cohort)
    participants = {
        "left": ParticipantKind.GOVERNMENT,
        "right": ParticipantKind.ENTERPRISE,
        "consumer": ParticipantKind.CONSUMER,
    }
    story.timed("start", lambda: story.start_nodes(participants))
    story.timed("publish", lambda: _publish(story, own))
    agreed: dict[str, str] = {}
    offers = [("left", "left-file"), ("right", "right-file")]
    story.timed("negotiate", lambda: agreed.update(story.agree("consumer", offers)))
    both = [agreed["left-file"], agreed["right-file"]]
    story.timed("compute", lambda: _compute(story, own, both))
    story.timed("refuse", lambda: story.be_refused("consumer", "private-sum/2", both))
    story.timed("audit", story.audit)
    story.timed("tamper", lambda: story.tamper("right"))
    return story.told


def _publish(story: Story, own: OwnFiles) -> None:
    story.screen.heading("Your files with offers", "rows stay where they are")
    form = own.canonicaliser
    left: list[dict[str, Any]] = [
        {"name": own.left_id, "role": "identifier", "canonicaliser": form}
    ]
    right: list[dict[str, Any]] = [
        {"name": own.right_id, "role": "identifier", "canonicaliser": form},
        {"name": own.right_value, "role": "value", "scale": own.decimals},
    ]
    # Whatever the columns hold: an authority has its duty, an enterprise its contracts.
    for node, file, columns, basis in (
        ("left", own.left, left, "statutory-duty"),
        ("right", own.right, right, "contract"),
    ):
        story.publish(
            node, f"{node}-file", str(file.resolve()), columns, file.name, legal_basis=basis
        )


def _compute(story: Story, own: OwnFiles, agreements: list[str]) -> None:
    story.screen.heading("Computing together", "the figure beside a plain join")
    expected = truth.joined_sum(
        truth.people(truth.rows(own.left), own.left_id, own.canonicaliser),
        truth.rows(own.right),
        column=own.right_id,
        canonicaliser=own.canonicaliser,
        value=lambda row: Decimal(row[own.right_value]),
        decimals=own.decimals,
    )
    story.compute(
        "consumer",
        "private-sum/2",
        agreements,
        expected,
        title=f"The sum of {own.right_value} over the people both files share",
    )
