"""What a node's settings come to, and where each comes from: default, `node.toml`, environment.

Read without opening the node, so that it can be asked about one that does not start.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr, ValidationError
from pydantic_core import PydanticUndefined
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from dataspace.errors import InputRejected
from dataspace.identity.addresses import is_loopback
from dataspace.settings import SETTINGS_FILE, Settings

PREFIX: Final = "DATASPACE_"
# What else of the environment is read, and what it says.
OTHER_VARIABLES: Final[Mapping[str, str]] = {
    "DATASPACE_HOME": "the default of `--home`",
    "DATASPACE_PASSPHRASE": "the passphrase of the key files",
    "DATASPACE_PASSPHRASE_FILE": "a file that holds it",
    "DATASPACE_URL": "the node's address for the command line, where it has no home",
    "DATASPACE_API_KEY": "the key of whoever uses the command line",
    "DATASPACE_API_KEY_FILE": "a file that holds it",
    "DATASPACE_STOP_WITH_PARENT": "any value: stop when standard input closes",
}
MASK: Final = "***"


class Level(StrEnum):
    """How bad a remark about settings is."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True)
class Remark:
    """Something about the settings that should be looked at."""

    level: Level
    setting: str
    sentence: str
    remedy: str

    def to_json(self) -> dict[str, str]:
        return {
            "level": self.level.value,
            "setting": self.setting,
            "sentence": self.sentence,
            "remedy": self.remedy,
        }


@dataclass(frozen=True)
class EffectiveSetting:
    """One setting as the node reads it; secrets are masked."""

    name: str
    value: Any
    source: str

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "value": self.value, "from": self.source}


@dataclass(frozen=True)
class Configuration:
    """All settings of a home, and what is wrong with them; `settings` is None where they cannot be
    used at all."""

    settings: Settings | None
    effective: tuple[EffectiveSetting, ...]
    remarks: tuple[Remark, ...]

    @property
    def usable(self) -> bool:
        return not any(one.level is Level.ERROR for one in self.remarks)


def read_configuration(home: Path, environment: Mapping[str, str]) -> Configuration:
    """The settings of the home in this environment. Raises InputRejected where there is no file
    of settings, or none that is TOML."""
    path = home / SETTINGS_FILE
    try:
        text = path.read_text(encoding="utf-8")
        given = tomllib.loads(text)
    except FileNotFoundError:
        raise InputRejected(
            f"{home} is not a node's home: it has no {SETTINGS_FILE}",
            remedy=f"run: dataspace init --home {home} --name NAME --kind KIND",
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as err:
        raise InputRejected(f"{path} is not valid TOML: {err}", remedy="correct that line") from err
    sources = _sources(text, given, environment)
    remarks = [*_unknown(given, environment)]
    settings, errors = _validated(given)
    remarks += errors
    if settings is not None:
        remarks += contradictions(settings, sources)
        values = {name: getattr(settings, name) for name in Settings.model_fields}
    else:
        values = {**_defaults(), **{k: v for k, v in given.items() if k in Settings.model_fields}}
        values |= {
            name: environment[PREFIX + name.upper()]
            for name in Settings.model_fields
            if PREFIX + name.upper() in environment
        }
    effective = tuple(
        EffectiveSetting(name, shown(name, values.get(name)), sources[name])
        for name in Settings.model_fields
    )
    return Configuration(settings, effective, tuple(remarks))


def shown(name: str, value: Any) -> Any:
    """A setting's value as it may be printed: passwords in addresses and secrets are masked."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, SecretStr) or is_secret(name):
        return MASK
    if isinstance(value, tuple | list):
        return [shown(name, one) for one in value]
    if isinstance(value, Mapping):
        return {key: shown(name, one) for key, one in value.items()}
    text = str(value)
    if "://" in text:
        return _without_password(text)
    return text


def is_secret(name: str) -> bool:
    """Whether nobody should see the value of this setting."""
    field = Settings.model_fields.get(name)
    return field is not None and "SecretStr" in str(field.annotation)


def _without_password(address: str) -> str:
    try:
        url = make_url(address)
    except ArgumentError:
        # What cannot be read cannot be masked in part.
        return MASK
    masked = {
        key: MASK if re.search("pass|secret|token|key", key, re.IGNORECASE) else value
        for key, value in url.query.items()
        if not key.lower().endswith("file")
    }
    masked |= {key: value for key, value in url.query.items() if key.lower().endswith("file")}
    return url.set(query=masked).render_as_string(hide_password=True)


def _defaults() -> dict[str, Any]:
    found = {name: field.get_default() for name, field in Settings.model_fields.items()}
    return {name: value for name, value in found.items() if value is not PydanticUndefined}


def _sources(text: str, given: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, str]:
    """Where each setting comes from, in words."""
    lines: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        found = re.match(r"""\s*\[?["']?([A-Za-z0-9_-]+)["']?[\s=.\]]""", line)
        if found:
            lines.setdefault(found.group(1), number)
    sources = {}
    for name in Settings.model_fields:
        variable = PREFIX + name.upper()
        if variable in environment:
            sources[name] = f"environment, {variable}"
        elif name in given:
            line = f", line {lines[name]}" if name in lines else ""
            sources[name] = f"{SETTINGS_FILE}{line}"
        else:
            sources[name] = "default"
    return sources


def _unknown(given: Mapping[str, Any], environment: Mapping[str, str]) -> list[Remark]:
    """Names that nothing reads. In the environment they would go unnoticed."""
    remarks = [
        Remark(
            Level.ERROR,
            name,
            f"{SETTINGS_FILE} names the setting {name}, which there is not",
            "remove it, or correct its name: dataspace config show lists them",
        )
        for name in given
        if name not in Settings.model_fields
    ]
    known = {PREFIX + name.upper() for name in Settings.model_fields} | set(OTHER_VARIABLES)
    return remarks + [
        Remark(
            Level.WARNING,
            name,
            f"the environment has {name}, which nothing reads",
            "remove it, or correct its name",
        )
        for name in sorted(environment)
        if name.startswith(PREFIX) and name not in known
    ]


def _validated(given: Mapping[str, Any]) -> tuple[Settings | None, list[Remark]]:
    known = {name: value for name, value in given.items() if name in Settings.model_fields}
    try:
        return Settings(**known), []
    except ValidationError as err:
        return None, [
            Remark(
                Level.ERROR,
                ".".join(str(part) for part in one["loc"]) or "settings",
                # Without the value, which may be a secret.
                f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}",
                f"correct it in {SETTINGS_FILE} or in the environment",
            )
            for one in err.errors(include_input=False, include_url=False)
        ]


@dataclass(frozen=True)
class _Contradiction:
    """Settings that do not go together: when, about which, and what to do."""

    level: Level
    setting: str
    holds: Callable[[Settings, Mapping[str, str]], bool]
    sentence: str
    remedy: str


def _without(name: str, needed: str) -> Callable[[Settings, Mapping[str, str]], bool]:
    """Whether `name` was given and `needed` is not set, so that `name` is not looked at."""
    return lambda settings, sources: sources[name] != "default" and not getattr(settings, needed)


CONTRADICTIONS: Final = (
    _Contradiction(
        Level.WARNING,
        "operator",
        lambda settings, _: settings.founder and settings.operator is not None,
        "a founder is its own space's operator, so operator is not looked at",
        "remove operator",
    ),
    _Contradiction(
        Level.WARNING,
        "chain",
        _without("chain", "founder"),
        "chain is for founders; a member learns the chain's address when it joins",
        "remove chain",
    ),
    _Contradiction(
        Level.WARNING,
        "chain_id",
        lambda settings, sources: sources["chain_id"] != "default" and settings.chain is not None,
        "chain_id is of the embedded chain, and chain names another",
        "remove chain_id",
    ),
    _Contradiction(
        Level.ERROR,
        "local",
        lambda settings, _: not settings.local and (settings.url or "").startswith("http:"),
        "local is false, and url is plain http: no peer would talk to this node",
        "put a proxy that speaks TLS before it and set url to its https address",
    ),
    _Contradiction(
        Level.WARNING,
        "local",
        lambda settings, _: settings.local and not is_loopback(settings.host),
        "local is true, which is for spaces on one machine, and host is reached by others",
        "set local = false",
    ),
    _Contradiction(
        Level.WARNING,
        "tls_key",
        lambda settings, _: (settings.tls_key is None) != (settings.tls_certificate is None),
        "of tls_certificate and tls_key one is set and the other is not",
        "set both, or none",
    ),
    _Contradiction(
        Level.WARNING,
        "worker_processes",
        lambda settings, sources: (
            settings.cluster is not None
            and (sources["worker_processes"], sources["worker_memory_mb"]) != ("default", "default")
        ),
        "cluster takes the place of the worker processes, so what is said of them is not looked at",
        "remove worker_processes and worker_memory_mb, or cluster",
    ),
    _Contradiction(
        Level.WARNING,
        "spu_listen_host",
        lambda settings, sources: (
            settings.spu_python is None
            and (sources["spu_listen_host"], sources["spu_public_host"]) != ("default", "default")
        ),
        "spu_listen_host and spu_public_host are of an engine that spu_python does not name",
        "set spu_python, or remove them",
    ),
    _Contradiction(
        Level.WARNING,
        "metrics_host",
        _without("metrics_host", "metrics_port"),
        "metrics_host is the address of metrics_port, which is not set",
        "set metrics_port, or remove metrics_host",
    ),
    _Contradiction(
        Level.ERROR,
        "metrics_host",
        lambda settings, _: (
            settings.metrics_port is not None
            and settings.metrics_token is None
            and not is_loopback(settings.metrics_host)
        ),
        "metrics_host is an address that others reach, and there is no metrics_token",
        "set DATASPACE_METRICS_TOKEN, or metrics_host to 127.0.0.1",
    ),
    _Contradiction(
        Level.WARNING,
        "metrics_token",
        lambda _, sources: sources["metrics_token"].startswith(SETTINGS_FILE),
        f"metrics_token is in {SETTINGS_FILE}, which holds nothing secret otherwise",
        "set DATASPACE_METRICS_TOKEN in its place",
    ),
    _Contradiction(
        Level.ERROR,
        "metrics_port",
        lambda settings, _: (
            settings.metrics_port is not None and settings.metrics_port == settings.port
        ),
        "metrics_port is the port of the node itself",
        "choose another",
    ),
)


def contradictions(settings: Settings, sources: Mapping[str, str]) -> list[Remark]:
    """What of these settings does not go together."""
    return [
        Remark(one.level, one.setting, one.sentence, one.remedy)
        for one in CONTRADICTIONS
        if one.holds(settings, sources)
    ]


def settings_table() -> str:
    """The settings as a table in Markdown, for the documentation."""
    lines = ["| setting | default | |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = field.get_default()
        if default is PydanticUndefined:
            told = "(needed)"
        elif default is None or default == ():
            told = "none"
        elif isinstance(default, bool):
            told = f"`{str(default).lower()}`"
        else:
            told = f"`{default}`"
        limits = ", ".join(f"{word} {value:,}" for word, value in _limits(field.metadata))
        about = (field.description or "").replace("|", "\\|")
        lines.append(f"| `{name}` | {told} | {about}{f' ({limits})' if limits else ''} |")
    return "\n".join(lines)


def _limits(metadata: list[Any]) -> list[tuple[str, float]]:
    """The bounds of a number, as pydantic keeps them."""
    words = (("ge", "at least"), ("gt", "more than"), ("le", "at most"), ("lt", "less than"))
    return [
        (word, getattr(one, name))
        for name, word in words
        for one in metadata
        if isinstance(getattr(one, name, None), int | float)
    ]
