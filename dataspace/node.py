"""One node, put together: home, database, identity, peers, evidence, processes, sessions."""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
import structlog
from eth_account import Account
from sqlmodel import Session

from dataspace.access.acts import Acts
from dataspace.access.gate import Access
from dataspace.access.holding import Requests
from dataspace.access.oidc import Provider
from dataspace.access.registry import Keys
from dataspace.anchoring import Anchoring
from dataspace.catalog import Datasets
from dataspace.chain_access import ChainAccess
from dataspace.claims.parts import Parts
from dataspace.computing.backend import compute_backend
from dataspace.computing.computations import Computations
from dataspace.computing.deciding import Deciding
from dataspace.computing.forwarding import Forwarding
from dataspace.computing.running import Running
from dataspace.computing.sessions import Sessions
from dataspace.computing.spools import Spools
from dataspace.consent_evidence import ConsentEvidence
from dataspace.consents import Consents
from dataspace.errors import InputRejected, ProtocolViolation
from dataspace.evidence import Evidence, Space, origin_of_url, write_space
from dataspace.federation.crawling import Federation
from dataspace.home import Home
from dataspace.identity.did import did_of_url, document_of_node
from dataspace.identity.keys import VerificationKey, verify_bytes
from dataspace.identity.tokens import Identity, renewal_time
from dataspace.keyring import KeyChange, Keyring
from dataspace.leases import give_back_leases
from dataspace.membership import Application, apply_for_membership, renew_membership
from dataspace.operations.condition import Condition
from dataspace.operations.figures import Figures
from dataspace.operations.metrics import Metrics
from dataspace.operations.scraping import ScrapePort
from dataspace.operations.tracing import spans_of
from dataspace.operator import Operator
from dataspace.outbound import outbound_client
from dataspace.peers import Peers
from dataspace.post_quantum import SecondKeyChange, SecondKeys
from dataspace.processes import (
    ALONE,
    FOR_EVER_S,
    Handler,
    Later,
    Process,
    ProcessEngine,
    is_kept,
    is_scheduled,
    schedule,
)
from dataspace.protocol import Behaviour
from dataspace.protocol.agreements import Agreements
from dataspace.protocol.data_plane import DataPlane
from dataspace.protocol.delivery import Delivery
from dataspace.protocol.leaving import Leaving
from dataspace.protocol.negotiations import Negotiations
from dataspace.protocol.proposals import Proposals
from dataspace.protocol.transfers import Transfers
from dataspace.rates import Rates
from dataspace.replicas import Duties, Replicas
from dataspace.returns import Returns
from dataspace.rewind import Rewind
from dataspace.rotation import Rotation
from dataspace.sealed_rows import RowSealing
from dataspace.secret_files import node_passphrase
from dataspace.settings import ParticipantKind
from dataspace.standings import MemberStandings
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
        log_key = home.log_key()
        account_key, self.api_key = home.account_key(), home.api_key()
        self.account_address: str = Account.from_key(account_key).address
        self.figures = Figures()
        # In every log line of a request or a process.
        self.log_fields = {"node": self.did, "replica": settings.replica}
        self.spans = spans_of(settings, did=self.did)
        self.store = Store(home.database_url)
        self.store.on_transaction(lambda took_s: self.figures.transaction_s.add((), took_s))
        self.store.migrate()
        self.replicas = Replicas(self.store, name=settings.replica, address=home.replica_url)
        _verify_one_founder(home)
        self.keyring = Keyring(self.store, home.key_files, self.did)
        self.second_keys = SecondKeys(self.store, home.path / "keys", self.did)
        self.rows = RowSealing(
            self.keyring.root,
            seals=node_passphrase() is not None,
            suite=home.key_files.sealing_suite(),
        )
        self.store.use_sealing(self.rows)
        self.http = outbound_client(settings.tls_ca, settings.address_policy, heard=self._heard)
        self.peers = peers(
            self.store, lambda: self.keyring.identity, self.http, local=settings.local
        )
        self.rates = Rates.of_members(settings.rate_per_member)
        self.behaviour = behaviour or Behaviour()
        self.chain_access = ChainAccess.of(
            settings, account_key, self.store.exclusive("account on the chain")
        )
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
        self.access = self._access()
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
        self.standings = MemberStandings(self)
        self.peers.standings = self.standings
        self.sharing = Sharing(self, self.operators_zones)
        self.datasets = Datasets(self)
        self.federation = Federation(self)
        self.versions = Versions(self)
        self.consent_evidence = ConsentEvidence(self)
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
        self.forwarding = Forwarding(self)
        self.workers = compute_backend(
            processes=settings.worker_processes,
            memory_mb=settings.worker_memory_mb,
            cluster=settings.cluster,
        )
        self.running = Running(self, Spools(home.path, self.keyring.root, self.rows))
        self.computations = Computations(self, self.running)
        self.rotation = Rotation(self)
        self.key_change = KeyChange(self)
        self.second_key_change = SecondKeyChange(self)
        self.evidence.reload_signer = self.rotation.reload
        self.tidying = Tidying(self.store)
        self.rewind = Rewind(self)
        self.operator = Operator(self) if settings.founder else None
        self.claims = Parts(self)
        self.chain = self._embedded_chain() if settings.founder and not settings.chain else None
        self.condition = Condition(self)
        self.metrics = Metrics(self)
        self._scrape_port: ScrapePort | None = None
        self.engine = ProcessEngine(
            self.store,
            self._handlers(),
            me=self.replicas.name,
            figures=self.figures,
            spans=self.spans,
            fields=self.log_fields,
        )

    def start(self) -> None:
        """Resume what an earlier life left, and join the space if that has not happened yet.

        Where the log was rewound nothing is resumed: the node only tells so.
        """
        if not self.rewind.begin(self.engine.stop):
            self.condition.start()
            return
        self.running.recover()
        self.transfers.recover()
        self.vaults.recover()
        self.consent_evidence.recover()
        if self.operator is not None:
            self.operator.begin()
        else:
            with self.store.transaction() as tx:
                if not self.member(tx) and self.home.invitation() is not None:
                    # Not before we listen: the operator fetches our DID document.
                    self._schedule_join(tx, after_s=0.5)
        self.second_key_change.follow_setting()
        self.tidying.begin()
        self.versions.begin()
        self.zones.begin()
        self.standings.begin()
        self.federation.begin()
        with self.store.transaction() as tx:
            if self.member(tx):
                self.evidence.schedule_anchor(tx, after_s=0.0)
            self.keep_membership(tx)
        self.replicas.begin(self._duties())
        self.engine.start()
        self.condition.start()
        if self.home.settings.metrics_port is not None:
            self._scrape_port = ScrapePort(self.metrics, self.home.settings)
        log.info("node started", did=self.did, kind=self.home.settings.kind)

    def stop(self) -> None:
        """Close everything; what is in hand is finished first where that takes a moment only."""
        self.condition.stop()
        if self._scrape_port is not None:
            self._scrape_port.close()
        self.rewind.end()
        self.sessions.close()
        self.engine.stop()
        self.replicas.end(self._hand_over)
        self.workers.close()
        self.forwarding.close()
        if self.chain is not None:
            self.chain.close()
        self.http.close()
        self.store.close()
        if self.spans is not None:
            self.spans.close()
        log.info("node stopped", did=self.did)

    def drain(self) -> None:
        """Begin nothing new. What is in hand goes on; `idle` says when there is nothing left."""
        self.engine.drain()
        self.replicas.drain()

    def idle(self) -> bool:
        """Whether stopping now would interrupt nothing."""
        return not (self.sessions.running() or self.computations.keyed()) and self.engine.idle()

    def _duties(self) -> Duties:
        return Duties(
            take_over=self._hand_over, let_go=self.running.let_go, each_beat=self._look_around
        )

    def _hand_over(self, tx: Session, replica: str) -> None:
        """Let any replica go on with what `replica` had."""
        give_back_leases(tx, replica, bound=True)
        self.running.take_over(tx, replica)

    def _look_around(self) -> None:
        """See what other replicas have changed that this one has in memory."""
        self.rotation.follow()
        if self.replicas.others():
            self.running.follow()
            self.zones.follow()
            self.standings.follow()

    def _schedule_join(self, tx: Session, *, after_s: float = 0.0) -> None:
        # In a lane: each replica schedules it at its start, and an invitation is good for once.
        schedule(tx, JOIN, self.did, lane=JOIN, after_s=after_s, give_up_after_s=JOIN_GIVE_UP_S)

    def _heard(self, response: httpx2.Response) -> None:
        """Count what peers and the operator answer."""
        self.figures.outgoing.add((str(response.status_code),))

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
            self._schedule_join(tx)

    def document(self) -> dict[str, object]:
        """The DID document: every key of ours that is to be believed."""
        return self.claims.describe(
            document_of_node(
                did=self.did,
                url=self.home.url,
                keys=self.keyring.listed(),
                second=self.second_keys.listed(),
            )
        )

    def member(self, tx: Session) -> bool:
        """Whether this node has its membership credential."""
        return tx.get(Setting, "membership") is not None

    @property
    def identity(self) -> Identity:
        """Our DID with the key that is in use now."""
        return self.keyring.identity

    def identity_signer(self) -> Callable[[bytes], bytes]:
        """Signs bytes with the key that is in use when it is called."""
        return lambda signed: self.identity.signing_key.sign(signed)

    def derived_key(self, use: str) -> bytes:
        """32 secret bytes of this node for one use, the same whenever they are asked for."""
        label = b"city-dataspace/derived-key/1/" + use.encode()
        return hmac.digest(self.keyring.root, label, "sha256")

    def verify_signature(self, did: str, signed: bytes, signature: bytes) -> None:
        """Check a signature by `did` over `signed`, by any key it lists for statements.

        Raises ProtocolViolation.
        """
        own = did == self.did
        keys = [one.key for one in self.keyring.listed()] if own else self.peers.resolver.keys(did)
        if not own and not _is_signed(keys, signed, signature):
            # A key that replaced a compromised one was not announced.
            keys = self.peers.resolver.keys(did, fresh=True)
        if not _is_signed(keys, signed, signature):
            raise ProtocolViolation(f"the signature is not one of {did}")

    def keep_membership(self, tx: Session) -> None:
        """Schedule renewals in the caller's transaction, once the node is a member."""
        if self.member(tx) and not is_kept(tx, RENEW, self.did):
            schedule(tx, RENEW, self.did, give_up_after_s=FOR_EVER_S)

    def schedule_renewal(self, tx: Session) -> None:
        """Have the credential renewed soon, because what the operator says of us has changed."""
        if self.member(tx) and not is_scheduled(tx, RENEW_NOW, self.did):
            schedule(tx, RENEW_NOW, self.did)

    def key_of(self, kid: str) -> VerificationKey:
        """The verification key of this id, our own included. Raises ProtocolViolation or
        Unavailable."""
        own = kid.partition("#")[0] == self.did
        return self.keyring.public_key(kid) if own else self.peers.resolver.key(kid)

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

    def _access(self) -> Access:
        settings = self.home.settings
        acts = Acts(self.store, self.evidence)
        trust = settings.identity_provider
        return Access(
            self.api_key,
            keys=Keys(self.store),
            acts=acts,
            requests=Requests(self.store, acts, lifetime_s=settings.request_lifetime_s),
            provider=None if trust is None else Provider(trust, self.http, local=settings.local),
            two_persons=settings.two_persons,
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
            **self.consent_evidence.handlers(),
            **self.tidying.handlers(),
            **self.versions.handlers(),
            **self.zones.handlers(),
            **self.standings.handlers(),
            **self.federation.handlers(),
            **self.rotation.handlers(),
            **self.key_change.handlers(),
            **self.second_key_change.handlers(),
            **self.witnessing.handlers(),
            **self.claims.handlers(),
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


def _verify_one_founder(home: Home) -> None:
    """The operator's service keeps its chain, and its lists, in one process."""
    if home.settings.founder and home.settings.replica != ALONE:
        raise InputRejected(
            "the founder of a space runs as one process, and this one is named as one of several",
            remedy="leave the setting replica out",
        )


def _is_signed(keys: Sequence[VerificationKey], signed: bytes, signature: bytes) -> bool:
    for key in keys:
        try:
            verify_bytes(key, signed, signature)
        except ProtocolViolation:
            continue
        return True
    return False
