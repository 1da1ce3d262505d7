"""The claims kit's cases, by the part our node plays: verifier, holder, issuer.

Named after the kit's package and method. Three more are switched off in the kit itself; they ask by
presentation definition, which the protocol does not require.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

VERIFIER: Final = "presentation.verifier"
PRESENTING: Final = "presentation.cs"
STORING: Final = "issuance.cs"
ISSUING: Final = "issuance.issuer"

# What is wrong with the token in a case of a message to the credential service.
_WRONG_TO_HOLDER: Final = (
    "noAuthHeader",
    "missingBearerPrefix",
    "invalidBody",
    "tokenSignedWithWrongKey",
    "tokenExpired",
    "iatInFuture",
    "nbfViolated",
    "incorrectAudience",
    "issNotEqualToSub",
    "jtiAlreadyUsed",
)

CASES: Final[Mapping[str, Sequence[str]]] = {
    VERIFIER: (
        "presentationResponse_rejectMissingBearerPrefix",
        "verifier_04_03_03_idTokenInvalidIssuerSub",
        "verifier_04_03_03_idTokenInvalidSub",
        "verifier_04_03_03_idTokenIncorrectAud",
        "verifier_04_03_03_idTokenIncorrectSub",
        "verifier_04_03_03_idTokenNbfInFuture",
        "verifier_04_03_03_idTokenExpired",
        "verifier_04_03_03_idTokenJtiUsedTwice",
        "verifier_04_03_01_presentationResponse_idTokenNoTokenClaim",
        "presentationResponse_endpointDiscovery",
        "verifier_05_01_presentationResponse_success",
        "verifier_05_04_02_01_presentationResponse_tooFewCredentials",
        "verifier_05_04_02_02_presentationResponse_tooManyCredentials",
        "verifier_05_04_02_03_presentationResponse_emptyPresentations",
        "verifier_05_04_02_04_presentationResponse_emptyCredentials",
        "verifier_05_04_03_presentationResponse_holderNotEqualSubjectId",
        "verifier_05_04_03_07_presentationResponse_expiredCredential",
        "verifier_05_04_03_06_presentationResponse_credentialRevoked",
        "verifier_05_04_03_06_presentationResponse_notYetValidCredential",
        "verifier_x_x_presentationResponse_invalidCredentialSchema",
    ),
    PRESENTING: (
        "cs_04_03_03_idTokenInvalidIssuerSub",
        "cs_04_03_03_idTokenInvalidSub",
        "cs_04_03_03_idtokenIncorrectAud",
        "cs_04_03_03_idtokenIncorrectSub",
        "cs_04_03_03_idtokenNbfInFuture",
        "cs_04_03_03_idtokenExpired",
        "cs_04_03_03_idtokenJtiUsedTwice",
        "cs_05_02_endpointDiscovery",
        "cs_05_03_01_accessTokenInvalidHeader",
        "cs_05_04_invalidTokenNotAuthorized",
        "cs_05_04_01_invalidScopeAndPresentationRequest",
        "cs_05_04_01_emptyPresentationDefinition",
        "cs_05_04_02_emptyScopeExpect4xx",
        "cs_05_04_01_02_scopeByTypeRequest",
        "cs_05_04_01_02_lessScopesThanAuthorizedByTypeRequest",
        "cs_05_04_01_02_invalidScopeEscalationRequest",
    ),
    STORING: (
        "cs_06_05_01_credentialMessage",
        *(f"cs_06_05_01_credentialMessage_{what}" for what in _WRONG_TO_HOLDER),
        "cs_06_05_01_credentialMessage_invalidStatus",
        "cs_06_06_01_credentialOfferMessage",
        "cs_06_06_01_credentialOfferMessage_onlyIds",
        *(f"cs_06_06_01_credentialOfferMessage_{what}" for what in _WRONG_TO_HOLDER),
    ),
    ISSUING: (
        "is_6_2_endpointDiscovery",
        "is_6_4_1_credentialRequest",
        "is_6_4_2_credentialRequest_noAuthHeader",
        "is_6_4_3_credentialRequest_noBearerPrefix",
        "is_6_4_4_credentialRequest_invalidBody",
        "is_6_4_5_credentialRequest_tokenSignedWithWrongKey",
        "is_6_4_6_credentialRequest_tokenExpired",
        "is_6_4_7_credentialRequest_iatInFuture",
        "is_6_4_8_credentialRequest_nbfViolated",
        "is_6_4_8_credentialRequest_invalidAud",
        "is_6_4_10_credentialRequest_issNotEqualSub",
        "is_6_4_11_credentialRequest_jtiAlreadyUsed",
        "is_6_4_12_credentialRequest_missingHolderPid",
        "is_6_7_issuerMetadata",
        "is_6_8_1_credentialStatusRequest",
        "is_6_8_2_credentialStatusRequest_noAuthHeader",
        "is_6_8_3_credentialStatusRequest_noBearerPrefix",
        "is_6_8_5_credentialStatusRequest_tokenSignedWithWrongKey",
        "is_6_8_6_credentialStatusRequest_tokenExpired",
        "is_6_8_7_credentialStatusRequest_iatInFuture",
        "is_6_8_8_credentialStatusRequest_nbfViolated",
        "is_6_8_8_credentialStatusRequest_invalidAud",
        "is_6_8_10_credentialStatusRequest_issNotEqualSub",
        "is_6_8_11_credentialStatusRequest_jtiAlreadyUsed",
        "is_6_8_12_credentialStatusRequest_requestIdNotFound",
    ),
}


def expected_claims_cases(section: str) -> frozenset[str]:
    """The ids of all cases of a section that have to run and pass."""
    return frozenset(f"{section}:{method}" for method in CASES[section])
