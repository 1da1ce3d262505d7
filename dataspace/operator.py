"""The operator's service: founds the space, admits participants, keeps the registry and the chain.

Only the founder of a space runs it. Admission: whoever proves a DID and holds an unused invitation
gets a membership credential of the invitation's kind; its evidence log is registered in the
`AnchorRegistry` and its chain account gets money for gas.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sqlmodel import Session, select

from dataspace.errors import Denied, InputRejected, Unavailable
from dataspace.evidence import Space, origin_of_url, read_space, write_space
from dataspace.identity.did import did_of_url
from dataspace.identity.standing import Standing
from dataspace.identity.tokens import CREDENTIAL_LIFETIME_S, issue_credential, renewal_time
from dataspace.members import Members
from dataspace.membership import Admission, Application
from dataspace.processes import GIVE_UP_S, Handler, Later, Process, schedule
from dataspace.settings import ParticipantKind
from dataspace.status_registry import StatusRegistry
from dataspace.store.tables import InvitationRow, ParticipantRow, Setting
from dataspace.zones.registry import MAX_ZONES_A_MEMBER, ZoneRegistry
from ledger.entry import EntryType

if TYPE_CHECKING:
    from dataspace.node import Node

FOUND = "found-space"
ADMIT = "register-log"
REGISTRAR_LANE = "registrar"
INVITATION_LIFETIME_S = 7 * 86400
# Gas for some ten thousand anchors on a chain that charges one gwei.
GAS_MONEY_WEI = 10**18


class Operator:
    """The operator's service over the founder's own node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.zones = ZoneRegistry(node)
        self.status = StatusRegistry(node)
        self.members = Members(node, self.zones)

    def handlers(self) -> dict[str, Handler]:
        return {FOUND: Handler(self.found), ADMIT: Handler(self._register_log)}

    def begin(self) -> None:
        """Found the space at the first start; at every later one check that the chain still has
        our contract."""
        with self._node.store.transaction() as tx:
            schedule(tx, FOUND, self._node.did, give_up_after_s=GIVE_UP_S)

    def invite(self, kind: ParticipantKind, zones: Sequence[str] = ()) -> str:
        """A new invitation code for one participant of this kind, good for a week.

        `zones` are those whose lists it comes onto: industry parks, free-trade zones, groups.
        """
        if kind is ParticipantKind.OPERATOR:
            raise InputRejected("a space has one operator", remedy="invite another kind")
        zones = list(dict.fromkeys(zones))
        if len(zones) > MAX_ZONES_A_MEMBER:
            raise InputRejected(f"zones: expected at most {MAX_ZONES_A_MEMBER}, got {len(zones)}")
        code = secrets.token_urlsafe(24)
        with self._node.store.transaction() as tx:
            self.zones.verify_exist(tx, zones)
            expires_at = time.time() + INVITATION_LIFETIME_S
            tx.add(
                InvitationRow(
                    code_h=_code_hash(code), kind=kind, zones=zones, expires_at=expires_at
                )
            )
        return code

    def admit(self, did: str, application: Application) -> Admission:
        """Give `did` its membership. The same application repeated gets the same answer."""
        node = self._node
        with node.store.transaction() as tx:
            space = read_space(tx)
            if space is None:
                raise Unavailable("the space is being founded", remedy="try again in a moment")
            invitation = tx.get(InvitationRow, _code_hash(application.invitation))
            if invitation is None or invitation.used_by not in (None, did):
                raise Denied(
                    "the invitation is unknown or was used by another participant",
                    remedy="ask the operator for a new one: dataspace invite --kind KIND",
                )
            if invitation.expires_at < time.time():
                raise Denied("the invitation has expired", remedy="ask the operator for a new one")
            if invitation.kind != application.kind:
                raise Denied(
                    f"the invitation is for a participant of kind {invitation.kind}, "
                    f"not {application.kind}",
                    remedy="ask the operator for an invitation of your kind",
                )
            _verify_own_log(did, application)
            member = tx.get(ParticipantRow, did)
            if member is None:
                member = self._add(tx, did, application, invitation.zones)
            self.members.verify_active(member)
            invitation.used_by = did
            tx.add(invitation)
            if member.account != application.account:
                raise Denied(
                    "a member at this address has joined with other keys",
                    remedy="restore its keys from your backup, or use another address",
                )
            if _is_due(member.credential):
                member.credential = self._issue(tx, member)
                tx.add(member)
        return _admission(member.credential, space)

    def renew(self, did: str) -> Admission:
        """A fresh credential for a member whose old one is ending. Raises Denied for others."""
        with self._node.store.transaction() as tx:
            space, member = read_space(tx), tx.get(ParticipantRow, did)
            if space is None or member is None:
                raise Denied(
                    "only a member's credential is renewed",
                    remedy="join with an invitation: ask the operator",
                )
            self.members.verify_active(member)
            member.credential = self._issue(tx, member)
            tx.add(member)
        return _admission(member.credential, space)

    def hint_renewals(self, tx: Session) -> None:
        """Have every member renew its credential now, in the caller's transaction."""
        active = select(ParticipantRow).where(ParticipantRow.standing == Standing.ACTIVE.value)
        for member in tx.exec(active).all():
            self.zones.hint(tx, member)

    def found(self, process: Process) -> Later | None:
        """Deploy the contract, once; join as the first member."""
        node = self._node
        rpc_url = node.home.settings.chain or f"{node.home.url}/chain"
        with node.store.transaction() as tx:
            deployed = tx.get(Setting, "founder.contract")
            space = read_space(tx)
        if deployed is None:
            # A crash between deployment and this commit leaves an unused contract behind, which
            # costs gas and harms nobody: no log was registered in it.
            with node.chain_access.account:
                address = node.chain_access.deploy(rpc_url)
            with node.store.transaction() as tx:
                tx.merge(Setting(name="founder.contract", value=address))
        else:
            address = deployed.value
        registry = node.chain_access.open(rpc_url, address)
        registry.verify_code()
        chain_id = registry.chain_id()
        if space is None:
            with node.store.transaction() as tx:
                write_space(tx, Space(node.did, rpc_url, address, chain_id))
                self._add(tx, node.did, node.application(invitation="founder-needs-none"))
                credential = tx.get_one(ParticipantRow, node.did).credential
                tx.merge(Setting(name="membership", value=credential))
                tx.flush()
                node.keep_membership(tx)
        return None

    def _add(
        self, tx: Session, did: str, application: Application, zones: Sequence[str] = ()
    ) -> ParticipantRow:
        node = self._node
        member = ParticipantRow(
            did=did,
            kind=application.kind,
            name=application.name,
            url=application.url,
            log_origin=application.log_origin,
            account=application.account,
            credential="",
            joined_at=time.time(),
        )
        node.evidence.record(tx, EntryType.JOINED, peer=did, outcome=application.kind.value)
        self.zones.admit_invited(tx, did, zones)
        member.credential = self._issue(tx, member)
        tx.add(member)
        if application.log_origin and application.log_vkey and application.account:
            schedule(
                tx, ADMIT, did, application.model_dump(exclude={"invitation"}), lane=REGISTRAR_LANE
            )
        tx.flush()
        return member

    def _issue(self, tx: Session, member: ParticipantRow) -> str:
        now = int(time.time())
        return issue_credential(
            self._node.identity,
            subject=member.did,
            kind=ParticipantKind(member.kind),
            name=member.name,
            zones=self.zones.zones_of(tx, member.did),
            now=now,
            status=self.status.allot(tx, member.did, expires_at=now + CREDENTIAL_LIFETIME_S),
        )

    def _register_log(self, process: Process) -> Later | None:
        """Fund the account and register the log, unless an earlier attempt already did."""
        node, asked = self._node, process.payload
        with node.store.transaction() as tx:
            space = read_space(tx)
        assert space is not None
        registry = node.chain_access.open(space.rpc_url, space.contract)
        if any(log.origin == asked["log_origin"] for log in registry.logs()):
            return None
        with node.chain_access.account:
            free = node.chain_access.gas_price_wei == 0
            if asked["account"] != node.account_address and not free:
                registry.fund(asked["account"], GAS_MONEY_WEI)
            registry.register(
                asked["log_origin"], asked["account"], asked["log_vkey"], f"{asked['url']}/tlog"
            )
        return None


def _admission(credential: str, space: Space) -> Admission:
    return Admission(
        credential=credential,
        operator=space.operator,
        rpc_url=space.rpc_url,
        contract=space.contract,
        chain_id=space.chain_id,
    )


def _is_due(credential: str) -> bool:
    return renewal_time(credential) <= time.time()


def _verify_own_log(did: str, application: Application) -> None:
    """An applicant's address and log must be those of the DID it proved. Raises Denied."""
    if application.url is None and application.log_origin is None:
        return
    url = application.url or ""
    if did_of_url(url) != did or application.log_origin != origin_of_url(url):
        raise Denied(
            "the address or the log in the application is not that of the applicant's DID",
            remedy="apply with the node's own address",
        )


def _code_hash(code: str) -> str:
    return hashlib.sha256(b"city-dataspace/invitation/1\0" + code.encode()).hexdigest()
