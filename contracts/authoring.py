"""Policies as people write them: YAML or JSON, either ODRL itself or ready policies combined.

use: [compute-only, approval]
with:
  computations: [private-sum/1]
  purposes: [public-health-research]
  min_cohort: 50
  not_after: 2027-06-30T16:00:00Z
also:
  prohibition:
    - action: use
      constraint:
        - {leftOperand: ds:recipientRole, operator: eq, rightOperand: enterprise}

YAML is read as JSON reads its values: only `true`, `false`, `null` and plain numbers are no text. A
date, `yes`, `0x14` or `007` stays what was written. A number as a right operand is its text.
"""

import json
import re
from collections.abc import Hashable, Mapping
from typing import Any, Final

import yaml

from contracts.errors import InputRejected, ProtocolViolation
from contracts.odrl import Agreement, Offer, same_terms
from contracts.templates import build
from contracts.wire import MAX_DEPTH, read_json, read_model

LIMIT_BYTES: Final = 256 * 1024
_OWN_NAMES: Final = frozenset({"use", "with", "also"})
_RULES: Final = ("permission", "prohibition", "obligation")

_OPENING: Final = (
    yaml.BlockMappingStartToken,
    yaml.BlockSequenceStartToken,
    yaml.FlowMappingStartToken,
    yaml.FlowSequenceStartToken,
)
_CLOSING: Final = (yaml.BlockEndToken, yaml.FlowMappingEndToken, yaml.FlowSequenceEndToken)
# What is no text, by the grammar of JSON; longer numbers stay text.
_PLAIN_VALUES: Final = (
    ("bool", r"true|false", "tf"),
    ("null", r"null|~|", ["n", "~", ""]),
    ("int", r"-?(?:0|[1-9][0-9]{0,999})", "-0123456789"),
    (
        "float",
        r"-?(?:0|[1-9][0-9]{0,999})(?:\.[0-9]{1,30})?(?:[eE][-+]?[0-9]{1,3})?",
        "-0123456789",
    ),
)


class _NameRefused(Exception):
    """A name that is no text, or comes twice in one mapping."""

    def __init__(self, sentence: str, key: yaml.Node) -> None:
        super().__init__(sentence)
        self.line = key.start_mark.line + 1


class _Loader(yaml.SafeLoader):
    """YAML with the values of JSON; every name is text and stands once in its mapping."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """The mapping in `node`. Raises _NameRefused for a name that is no text or comes twice.

        Two readers may keep different ones of two equal names, and so read two policies.
        """
        names = set()
        for key, _ in node.value:
            text = isinstance(key, yaml.ScalarNode) and key.tag == "tag:yaml.org,2002:str"
            if not text or key.value in names:
                wrong = "one twice" if text else "one that is not text"
                raise _NameRefused(f"expected every name once, as text; got {wrong}", key)
            names.add(key.value)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """YAML that puts in quotes whatever either reader of YAML would not take as text."""

    def ignore_aliases(self, data: Any) -> bool:
        """True: the reader refuses aliases."""
        return True

    def represent_str(self, data: str) -> yaml.ScalarNode:
        """Text; with escapes where it holds line breaks or what is not seen."""
        style = None if data.isprintable() else '"'
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)


_Dumper.add_representer(str, _Dumper.represent_str)


_Loader.yaml_implicit_resolvers = {}
for _name, _pattern, _first in _PLAIN_VALUES:
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(
            f"tag:yaml.org,2002:{_name}", re.compile(f"(?:{_pattern})\\Z"), list(_first)
        )


def read_policy(text: str, *, offer_id: str) -> Offer:
    """The offer in `text`, under `offer_id`. Raises InputRejected naming the line or the field."""
    return policy_from(parse_policy(text), offer_id=offer_id)


def parse_policy(text: str) -> dict[str, Any]:
    """The YAML or JSON in `text`, not yet understood. Raises InputRejected naming the line."""
    body = text.encode(errors="surrogatepass")
    if len(body) > LIMIT_BYTES:
        raise InputRejected(f"policy: expected at most {LIMIT_BYTES} bytes; shorten it")
    if text.lstrip().startswith("{"):
        try:
            return read_json(body, limit_bytes=LIMIT_BYTES)
        except ProtocolViolation:
            # It may be YAML that begins so, and that reader knows the line of what is wrong.
            pass
    try:
        _verify_shape(text)
        written = yaml.load(text, Loader=_Loader)  # noqa: S506 (a SafeLoader with fewer types)
    except _NameRefused as err:
        raise InputRejected(f"policy, line {err.line}: {err}") from err
    except yaml.YAMLError as err:
        # The parser's own words may quote the text.
        mark = getattr(err, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        raise InputRejected(f"policy{where}: expected YAML or JSON") from err
    if not isinstance(written, dict):
        raise InputRejected("policy: expected a mapping of names to values")
    return written


def policy_from(written: Mapping[str, Any], *, offer_id: str) -> Offer:
    """The offer that parsed YAML or JSON says: ODRL, or `use`, `with` and `also`.

    Raises InputRejected naming the field, what is expected there, and for a parameter what it is.
    """
    if not _OWN_NAMES & written.keys():
        return _read({**written, "@id": offer_id, "@type": "Offer"})
    unknown = sorted(str(name) for name in written.keys() - _OWN_NAMES)
    if unknown:
        raise InputRejected(
            f"{unknown[0]}: expected use, with and also, or an ODRL policy; not both"
        )
    use = written.get("use")
    # A name with nothing after it is null in YAML.
    parameters, also = written.get("with") or {}, written.get("also") or {}
    if not isinstance(use, list) or not all(isinstance(name, str) for name in use):
        raise InputRejected("use: expected a list of names of ready policies")
    if not isinstance(parameters, Mapping):
        raise InputRejected("with: expected a mapping of parameters to values")
    offer = build(use, parameters, offer_id=offer_id)
    if not isinstance(also, Mapping) or not all(
        name in _RULES and isinstance(rules, list) for name, rules in also.items()
    ):
        raise InputRejected(f"also: expected lists under {', '.join(_RULES)}")
    body = offer.to_json()
    for name, rules in also.items():
        body[name] = [*body.get(name, []), *rules]
    return _read(body)


def write_policy(policy: Offer | Agreement) -> str:
    """YAML that `read_policy` reads as an offer with the same terms and parties.

    Raises InputRejected for a policy that cannot be said so, such as one with a number in a list of
    right operands or a property named `use`, and for one of more than 256 KiB.
    """
    body = {name: one for name, one in policy.to_json().items() if name not in ("@id", "@type")}
    written: str = yaml.dump(body, Dumper=_Dumper, allow_unicode=True, sort_keys=False, width=100)
    again = read_policy(written, offer_id=policy.id)
    if not same_terms(again, policy):
        raise InputRejected("policy: expected one that can be said in YAML; keep it as JSON")
    return written


def _verify_shape(text: str) -> None:
    """Refuse what could grow when it is read, before anything is built. Raises InputRejected."""
    depth = 0
    for token in yaml.scan(text, Loader=yaml.SafeLoader):
        line = token.start_mark.line + 1
        # An alias can make a small text a huge document; a tag can make anything of a text.
        if isinstance(token, yaml.AliasToken | yaml.AnchorToken | yaml.TagToken):
            raise InputRejected(
                f"policy, line {line}: expected no anchors, aliases and tags (&, * and !); "
                "write the values out, in quotes where they begin so"
            )
        depth += isinstance(token, _OPENING) - isinstance(token, _CLOSING)
        if depth > MAX_DEPTH:
            raise InputRejected(f"policy, line {line}: expected at most {MAX_DEPTH} levels")


def _read(body: Mapping[str, Any]) -> Offer:
    try:
        plain = json.dumps(_with_texts(body), allow_nan=False).encode()
        return read_model(Offer, read_json(plain, limit_bytes=4 * LIMIT_BYTES))
    except ProtocolViolation as err:
        raise InputRejected(f"policy: {err}") from err
    except (TypeError, ValueError, RecursionError) as err:
        raise InputRejected("policy: expected values that JSON has") from err


def _with_texts(value: Any) -> Any:
    """`value` with its right operands as text, which the protocol demands and people forget."""
    if isinstance(value, Mapping):
        return {
            name: _text_of(one) if name == "rightOperand" else _with_texts(one)
            for name, one in value.items()
        }
    return [_with_texts(one) for one in value] if isinstance(value, list) else value


def _text_of(operand: Any) -> Any:
    if isinstance(operand, list):
        return [_text_of(one) for one in operand]
    number = isinstance(operand, int | float) and not isinstance(operand, bool)
    return json.dumps(operand) if number else operand
