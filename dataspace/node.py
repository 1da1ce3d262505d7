"""One node, put together: home, database, identity, peers, evidence, processes, sessions."""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from eth_account import Account
from sqlmodel import Session

from dataspace.access.gate import Access
from dataspace.anchoring import Anchoring
from dataspace.catalog import Datasets
from dataspace.chain_access import ChainAccess
from dataspace.computing.backend import compute_backend
from dataspace.computing.computations import Computations
from dataspace.computing.deciding import Deciding
from dataspace.computing.running import Running
from dataspace.computing.sessions import Sessions
from dataspace.computing.spools import Spools
from dataspace.consents import Consents
from dataspace.errors import InputRejected, ProtocolViolation
from dataspace.evidence import Evidence, Space, origin_of_url, write_space
from dataspace.federation.crawling import Federation
from dataspace.identity.did import VerificationKey, did_of_url, document_of_node
from dataspace.identity.tokens import Identity, renewal_time
from dataspace.membership import Application, apply_for_membership, renew_membership
from dataspace.operations.figures import Figures
from dataspace.operations.tracing import spans_of
from dataspace.operator import Operator
from dataspace.outbound import outbound_client
from dataspace.peers import Peers
from dataspace.processes import Handler, Later, Process, ProcessEngine, is_scheduled, schedule
from dataspace.protocol import Behaviour
from dataspace.protocol.agreements import Agreements
from dataspace.protocol.data_plane import DataPlane
from dataspace.protocol.delivery import Delivery
from dataspace.protocol.leaving import Leaving
from dataspace.protocol.negotiations import Negotiations
from dataspace.protocol.proposals import Proposals
from dataspace.protocol.transfers import Transfers
from dataspace.returns import Returns
from dataspace.rotation import Rotation
from dataspace.settings import Home, ParticipantKind
from dataspace.store.engine import Store
from dataspace.store.tables import Setting
from dataspace.tidying import Tidying
from dataspace.vaults import Vaults
from dataspace.versions import Versions
from dataspace.witnessing import Witnessing
from dataspace.zones.asking import OperatorsZones
from dataspace.zones.lists import ZoneLists
from dataspace.zones.sharing import Sharing
from ledger.checkpoint import NoteSigner
from ledger.cosignature import Cosigner
from ledger.entry import EntryType

if TYPE_CHECKING:
    from ledger.evm import EmbeddedChain

log = structlog.get_logger("dataspace.node")

JOIN, RENEW, RENEW_NOW = "join-space", "renew-membership", "renew-membership-now"
RENEWAL_LOOK_S = 6 * 3600.0
FOR_EVER_S = 100 * 365 * 86400.0
# The operator may be set up after its first members.
JOIN_GIVE_UP_S = 7 * 86400.0


class Node:
    """Everything one participant's process holds. Parts reach each other through it."""

    def __init__(
        self,
        home: Home,
        *,
        behaviour: Behaviour | None = None,
        peers: type[Peers] = Peers,
    ) -> None:
        """A node over `home`. `behaviour` is how it plays the protocol by itself, `peers` how it
        knows and reaches the others: both have one form in a data space, and another where a
        conformance kit plays the others."""
        settings = home.settings
        if settings.kind is ParticipantKind.REGULATOR:
            raise InputRejected(
                "a regulator runs no node: it verifies from outside",
                remedy="run: dataspace audit",
            )
        self.home = home
        self.did = did_of_url(home.url)
        # Each key file is read once: under a passphrase that costs a scrypt.
        self._signing_key, log_key = home.signing_key(), home.log_key()
        account_key, self.api_key = home.account_key(), home.api_key()
        self.access = Access(self.api_key)
        self.identity = Identity.of(self.did, self._signing_key)
        self.account_address: str = Account.from_key(account_key).address
        self.figures = Figures()
        self.spans = spans_of(settings, did=self.did)
        self.store = Store(home.database_url)
        self.store.on_transaction(lambda took_s: self.figures.transaction_s.add((), took_s))
        self.store.migrate()
        self.http = outbound_client(settings.tls_ca)
        self.peers = peers(self.store, self.identity, self.http, local=settings.local)
        self.behaviour = behaviour or Behaviour()
        self.chain_access = ChainAccess.of(settings, account_key)
        origin = origin_of_url(home.url)
        self.log_signer = NoteSigner(origin, log_key)
        self.witnessing = Witnessing(
            self.store, self.peers, self.chain_access, origin=origin, log_key=log_key
        )
        self.evidence = Evidence(
            self.store,
            origin=origin,
            actor=self.did,
            signer=self.log_signer,
            second_signer=Cosigner(origin, home.post_quantum_log_key())
            if settings.post_quantum
            else None,
            anchor_interval_s=settings.anchor_interval_s,
        )
        self.anchoring = Anchoring(
            self.store,
            self.evidence,
            chain=self.chain_access,
            witnesses=self.witnessing,
            interval_s=settings.anchor_interval_s,
        )
        self.delivery = Delivery(self)
        self.operators_zones = OperatorsZones(self)
        self.zones = ZoneLists(self, self.operators_zones)
        self.sharing = Sharing(self, self.operators_zones)
        self.datasets = Datasets(self)
        self.federation = Federation(self)
        self.versions = Versions(self)
        self.consents = Consents(self)
        self.vaults = Vaults(self)
        self.agreements = Agreements(self)
        self.negotiations = Negotiations(self)
        self.proposals = Proposals(self)
        self.deciding = Deciding(self)
        self.leaving = Leaving(self)
        self.data_plane = DataPlane(self)
        self.returns = Returns(self)
        self.transfers = Transfers(self)
        self.sessions = Sessions(self.peers)
        self.workers = compute_backend(
            processes=settings.worker_processes,
            memory_mb=settings.worker_memory_mb,
            cluster=settings.cluster,
        )
        self.running = Running(self, Spools(home.path, self._signing_key.private_bytes_raw()))
        self.computations = Computations(self, self.running)
        self.rotation = Rotation(self)
        self.tidying = Tidying(self.store)
        self.operator = Operator(self) if settings.founder else None
        self.chain = self._embedded_chain() if settings.founder and not settings.chain else None
        self.engine = ProcessEngine(
            self.store, self._handlers(), figures=self.figures, spans=self.spans, node=self.did
        )

    def start(self) -> None:
        """Resume what an earlier life left, and join the space if that has not happened yet."""
        self.running.recover()
        self.transfers.recover()
        self.vaults.recover()
        if self.operator is not None:
            self.operator.begin()
        else:
            with self.store.transaction() as tx:
                if not self.member(tx) and self.home.invitation() is not None:
                    # Not before we listen: the operator fetches our DID document.
                    schedule(tx, JOIN, self.did, after_s=0.5, give_up_after_s=JOIN_GIVE_UP_S)
        self.tidying.begin()
        self.versions.begin()
        self.zones.begin()
        self.federation.begin()
        with self.store.transaction() as tx:
            if self.member(tx):
                self.evidence.schedule_anchor(tx, after_s=0.0)
            self.keep_membership(tx)
        self.engine.start()
        log.info("node started", did=self.did, kind=self.home.settings.kind)

    def stop(self) -> None:
        """Finish the work in hand, then close everything."""
        self.sessions.close()
        self.engine.stop()
        self.workers.close()
        if self.chain is not None:
            self.chain.close()
        self.http.close()
        self.store.close()
        if self.spans is not None:
            self.spans.close()
        log.info("node stopped", did=self.did)

    def join(self, invitation: str) -> None:
        """Keep an operator's invitation and join the space with it. Raises InputRejected."""
        if self.home.settings.operator is None:
            raise InputRejected(
                "this node's settings name no operator",
                remedy="set operator in node.toml, or init the node with --operator URL",
            )
        with self.store.transaction() as tx:
            if self.member(tx):
                raise InputRejected("this node has joined its space already")
            self.home.keep_invitation(invitation)
            schedule(tx, JOIN, self.did, give_up_after_s=JOIN_GIVE_UP_S)

    def document(self) -> dict[str, object]:
        return document_of_node(did=self.did, url=self.home.url, key=self.identity.key)

    def member(self, tx: Session) -> bool:
        """Whether this node has its membership credential."""
        return tx.get(Setting, "membership") is not None

    def identity_signer(self) -> Callable[[bytes], bytes]:
        """Signs bytes with this node's signing key (Ed25519)."""
        return self._signing_key.sign

    def derived_key(self, use: str) -> bytes:
        """32 secret bytes of this node for one use, the same whenever they are asked for."""
        label = b"city-dataspace/derived-key/1/" + use.encode()
        return hmac.digest(self._signing_key.private_bytes_raw(), label, "sha256")

    def verify_signature(self, did: str, signed: bytes, signature: bytes) -> None:
        """Check an Ed25519 signature by `did` over `signed`. Raises ProtocolViolation."""
        own = did == self.did
        keys = [self.identity.key] if own else self.peers.resolver.keys(did)
        for key in keys:
            raw = key.public_key
            if isinstance(raw, Ed25519PublicKey):
                try:
                    raw.verify(signature, signed)
                except InvalidSignature:
                    continue
                return
        raise ProtocolViolation(f"the signature is not one of {did}")

    def keep_membership(self, tx: Session) -> None:
        """Schedule renewals in the caller's transaction, once the node is a member."""
        if self.member(tx) and not is_scheduled(tx, RENEW, self.did):
            schedule(tx, RENEW, self.did, give_up_after_s=FOR_EVER_S)

    def schedule_renewal(self, tx: Session) -> None:
        """Have the credential renewed soon, because what the operator says of us has changed."""
        if self.member(tx) and not is_scheduled(tx, RENEW_NOW, self.did):
            schedule(tx, RENEW_NOW, self.did)

    def key_of(self, kid: str) -> VerificationKey:
        """The verification key of this id, our own included. Raises ProtocolViolation or
        Unavailable."""
        return self.identity.key if kid == self.identity.kid else self.peers.resolver.key(kid)

    def application(self, *, invitation: str) -> Application:
        settings = self.home.settings
        return Application(
            name=settings.name,
            kind=settings.kind,
            invitation=invitation,
            url=settings.url,
            log_origin=self.evidence.origin,
            log_vkey=self.log_signer.vkey,
            account=self.account_address,
        )

    def _handlers(self) -> dict[str, Handler]:
        return {
            **self.anchoring.handlers(),
            JOIN: Handler(self._join),
            RENEW: Handler(self._renew),
            RENEW_NOW: Handler(self._renew_now),
            **self.delivery.handlers(),
            **self.negotiations.handlers(),
            **self.deciding.handlers(),
            **self.data_plane.handlers(),
            **self.returns.handlers(),
            **self.transfers.handlers(),
            **self.computations.handlers(),
            **self.tidying.handlers(),
            **self.versions.handlers(),
            **self.zones.handlers(),
            **self.federation.handlers(),
            **self.rotation.handlers(),
            **self.witnessing.handlers(),
            **(self.operator.handlers() if self.operator else {}),
        }

    def _embedded_chain(self) -> EmbeddedChain:
        # py-evm takes half a second to import, and only a founder needs it.
        from ledger.evm import EmbeddedChain

        return EmbeddedChain(
            Path(self.home.chain_path),
            chain_id=self.home.settings.chain_id,
            funded={self.account_address: 10**24},
            clock=lambda: int(time.time()),
        )

    def _renew(self, process: Process) -> Later:
        """Keep the membership credential fresh for as long as the node runs."""
        with self.store.transaction() as tx:
            credential = tx.get_one(Setting, "membership").value
        wait_s = renewal_time(credential) - time.time()
        if wait_s > 0:
            return Later(min(wait_s, RENEWAL_LOOK_S))
        self._renew_now(process)
        return Later(RENEWAL_LOOK_S)

    def _renew_now(self, process: Process) -> None:
        """Get the membership credential as it would be issued today."""
        if self.operator is not None:
            fresh = self.operator.renew(self.did)
        else:
            assert self.home.settings.operator is not None
            fresh = renew_membership(self.http, self.home.settings.operator, self.identity)
        with self.store.transaction() as tx:
            tx.merge(Setting(name="membership", value=fresh.credential))
        self.peers.forget_credential()
        log.info("membership renewed")

    def _join(self, process: Process) -> Later | None:
        with self.store.transaction() as tx:
            if self.member(tx):
                return None
        invitation, operator = self.home.invitation(), self.home.settings.operator
        if invitation is None or operator is None:
            raise InputRejected(
                "this node has no invitation to its space",
                remedy="ask the operator for one, then: dataspace join --invitation CODE",
            )
        admission = apply_for_membership(
            self.http, operator, self.identity, self.application(invitation=invitation)
        )
        with self.store.transaction() as tx:
            tx.merge(Setting(name="membership", value=admission.credential))
            space = Space(
                admission.operator, admission.rpc_url, admission.contract, admission.chain_id
            )
            write_space(tx, space)
            self.evidence.record(
                tx, EntryType.JOINED, peer=admission.operator, outcome=self.home.settings.kind.value
            )
            tx.flush()
            self.keep_membership(tx)
        self.home.forget_invitation()
        log.info("joined the space", operator=admission.operator)
        return None
