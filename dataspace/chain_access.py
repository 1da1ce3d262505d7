"""How this node talks to the space's chain: its account, and what the chain's settings ask for."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from dataspace.settings import Settings
from ledger.chain import Registry


@dataclass(frozen=True)
class ChainAccess:
    """One account and the way to use it.

    `account` is held from preparing a transaction until its receipt: a nonce is counted, not
    reserved, so one account has one sender at a time, over all replicas of the node.
    """

    private_key: str = field(repr=False)
    poa: bool
    gas_price_wei: int | None
    confirmations: int
    ca: Path | None = None
    account: AbstractContextManager[object] = field(default_factory=threading.Lock)

    @classmethod
    def of(
        cls,
        settings: Settings,
        private_key: str,
        account: AbstractContextManager[object] | None = None,
    ) -> ChainAccess:
        return cls(
            private_key=private_key,
            poa=settings.chain_poa,
            gas_price_wei=settings.chain_gas_price_wei,
            confirmations=settings.chain_confirmations,
            ca=settings.tls_ca,
            account=account or threading.Lock(),
        )

    def open(self, rpc_url: str, contract: str) -> Registry:
        """The contract at this address, with our account."""
        return Registry(
            rpc_url,
            contract,
            private_key=self.private_key,
            poa=self.poa,
            gas_price=self.gas_price_wei,
            ca=self.ca,
        )

    def deploy(self, rpc_url: str) -> str:
        """Put a new contract on the chain; returns its address."""
        return Registry.deploy(
            rpc_url, self.private_key, poa=self.poa, gas_price=self.gas_price_wei, ca=self.ca
        )
