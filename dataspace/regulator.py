"""A regulator's home: an identity that entitles to entry bodies, and no server.

Its DID is a did:key, so nobody has to fetch a document to know its key.
"""

from __future__ import annotations

import time
from pathlib import Path

import httpx2

from dataspace.errors import InputRejected, Unavailable
from dataspace.home import Home
from dataspace.identity.did import did_of_key
from dataspace.identity.tokens import Identity, issue_token, renewal_time
from dataspace.log_readers import TokenFor
from dataspace.membership import Application, apply_for_membership, renew_membership
from dataspace.outbound import outbound_client
from dataspace.settings import ParticipantKind

CREDENTIAL_FILE = "credential.jwt"


def regulator_identity(home: Home) -> Identity:
    """The did:key identity of a regulator's home."""
    key = home.signing_key()
    return Identity.of(did_of_key(key.jwk), key)


def join_as_regulator(home: Home, http: httpx2.Client) -> None:
    """Get the membership credential for a regulator's home and keep it there."""
    operator, invitation = home.settings.operator, home.invitation()
    if operator is None or invitation is None:
        raise InputRejected(
            "a regulator joins with the operator's address and an invitation",
            remedy="give --operator URL --invitation CODE",
        )
    application = Application(
        name=home.settings.name, kind=ParticipantKind.REGULATOR, invitation=invitation
    )
    admission = apply_for_membership(http, operator, regulator_identity(home), application)
    (home.path / CREDENTIAL_FILE).write_text(admission.credential, encoding="utf-8")
    home.forget_invitation()


def token_source(home: Home) -> TokenFor:
    """Tokens of a regulator's home for any node. Raises InputRejected before it has joined."""
    path = home.path / CREDENTIAL_FILE
    if not path.exists():
        raise InputRejected(
            f"{home.path} has no membership credential",
            remedy="make it with: dataspace init --kind regulator --operator URL --invitation CODE",
        )
    identity = regulator_identity(home)
    credential = _fresh(path, home, identity)

    def token_for(did: str) -> str:
        return issue_token(identity, audience=did, now=int(time.time()), membership=credential)

    return token_for


def _fresh(path: Path, home: Home, identity: Identity) -> str:
    """The stored credential, renewed first where it is due and the operator can be reached."""
    credential = path.read_text(encoding="utf-8").strip()
    operator = home.settings.operator
    if operator is None or renewal_time(credential) > time.time():
        return credential
    try:
        with outbound_client(home.settings.tls_ca) as http:
            credential = renew_membership(http, operator, identity).credential
    except Unavailable:
        # The old one may still do; a node that finds it expired says so.
        return credential
    path.write_text(credential, encoding="utf-8")
    return credential
