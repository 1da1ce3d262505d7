"""The two sides of every contract negotiation and transfer."""

from enum import StrEnum


class Party(StrEnum):
    """Who sent a message: the side that wants to use data, or the side that offers it."""

    CONSUMER = "CONSUMER"
    PROVIDER = "PROVIDER"
