"""What product code must not do, read from its source: run what came, or trust an `assert`."""

from __future__ import annotations

import ast
import os
import pickle
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from dataspace.computing.backend import LocalPool
from dataspace.computing.work_process import DONE, answer

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = ("dataspace", "connectors", "contracts", "ledger", "privacy")
# Modules that make objects, code or commands out of bytes.
FORBIDDEN_MODULES = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "jsonpickle", "joblib"}
FORBIDDEN_CALLS = {
    *("eval", "exec", "compile", "__import__", "os.system", "os.popen", "tempfile.mktemp"),
    *("yaml.load", "yaml.unsafe_load", "yaml.full_load", "yaml.load_all", "numpy.fromfile"),
    *("pickle.load", "pickle.loads", "pickle.Unpickler", "random.random", "random.choice"),
}
# A node and its own worker processes hand each other pieces of work as pickles, over a pipe that
# no other process has, or over a cluster that its owner names. Whoever could write there runs the
# same user's programs already. Each unpickles what the other has made, never what a peer sent.
OWN_WORKERS = {
    "dataspace/computing/backend.py": 1,
    "dataspace/computing/cluster.py": 0,
    "dataspace/computing/work_process.py": 2,
}
# A loader that knows fewer types than the safe one.
YAML_WITH_LOADER = {"contracts/authoring.py": 1}
# Asserts about our own doing that are neither "there is one" nor "it is of this type".
OWN_INVARIANTS = {
    ("dataspace/vaults.py", "index == place.index"),
    ("dataspace/computing/spu_engine.py", "len(payload) <= MAX_LINK_BYTES"),
    # The tables as the migrations see them; no request comes near.
    ("dataspace/store/migrations/env.py", "tables"),
}


# Parsing all of it would take seconds: a file without one of these words breaks none of the rules.
SUSPECT = re.compile(
    r"\bassert\b|\byaml\b|\bshell\b|allow_pickle|\bverify=|system\(|popen\(|mktemp|fromfile|random\."
    r"|(?<![.\w])(eval|exec|compile|__import__)\(|" + "|".join(sorted(FORBIDDEN_MODULES))
)


@cache
def product() -> dict[str, ast.Module]:
    found: dict[str, ast.Module] = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            if SUSPECT.search(text) and "node_modules" not in path.parts:
                found[str(path.relative_to(ROOT))] = ast.parse(text)
    return found


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (one.name.partition(".")[0] for one in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def test_only_a_node_and_its_own_workers_know_pickles() -> None:
    found = {
        name: sorted(FORBIDDEN_MODULES.intersection(imported(tree)))
        for name, tree in product().items()
    }
    assert {name: modules for name, modules in found.items() if modules} == {
        name: ["pickle"] for name in OWN_WORKERS
    }


def test_nothing_that_came_is_run_as_code_or_as_a_command() -> None:
    found: dict[tuple[str, str], int] = {}
    for name, tree in product().items():
        for called, call in calls(tree):
            if called in FORBIDDEN_CALLS:
                found[name, called] = found.get((name, called), 0) + 1
            for given in call.keywords:
                # Only what may be true is anything: subprocess's default is False.
                if given.arg in ("shell", "allow_pickle"):
                    assert ast.unparse(given.value) == "False", f"{name}: {ast.unparse(call)}"
                if given.arg == "verify":
                    assert ast.unparse(given.value) != "False", f"{name}: {ast.unparse(call)}"
    unpickling = {(name, "pickle.loads"): n for name, n in OWN_WORKERS.items() if n}
    assert found == unpickling | {(name, "yaml.load"): n for name, n in YAML_WITH_LOADER.items()}


def test_yaml_is_read_with_a_loader_that_makes_plain_values_only() -> None:
    import yaml

    from contracts import authoring

    for name in YAML_WITH_LOADER:
        (call,) = [call for called, call in calls(product()[name]) if called == "yaml.load"]
        assert [ast.unparse(given.value) for given in call.keywords] == ["_Loader"]
    assert issubclass(authoring._Loader, yaml.SafeLoader)


def test_an_assert_states_an_invariant_of_ours_and_guards_against_nobody() -> None:
    """`python -O` leaves asserts out; what a peer may send must be refused all the same."""
    odd = {
        (name, ast.unparse(node.test))
        for name, tree in product().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Assert) and not _narrows(node.test)
    }
    assert odd == OWN_INVARIANTS


def _narrows(test: ast.expr) -> bool:
    """Whether it only says that something is there, or of which type it is."""
    if isinstance(test, ast.BoolOp):
        return all(_narrows(one) for one in test.values)
    if isinstance(test, ast.Compare):
        last = test.comparators[-1]
        return (
            len(test.ops) == 1
            and isinstance(test.ops[0], ast.IsNot)
            and isinstance(last, ast.Constant)
            and last.value is None
        )
    return isinstance(test, ast.Call) and ast.unparse(test.func) == "isinstance"


class Burglar:
    """Unpickled, it makes a directory."""

    def __init__(self, trace: Path) -> None:
        self._trace = trace

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self._trace),)


def test_a_pickle_that_a_peer_sent_travels_to_a_worker_as_the_bytes_it_is(tmp_path: Path) -> None:
    trace = tmp_path / "was-here"
    sent = pickle.dumps(Burglar(trace))
    state, value = pickle.loads(answer(pickle.dumps((len, sent))))
    assert (state, value) == (DONE, len(sent))
    pool = LocalPool(1)
    try:
        assert list(pool.map(bytes, [sent, sent])) == [sent, sent]
    finally:
        pool.close()
    assert not trace.exists()
    # It would have been one.
    pickle.loads(sent)
    assert trace.exists()


@pytest.mark.parametrize("name", sorted(OWN_WORKERS))
def test_what_is_unpickled_comes_from_the_channel_to_our_own_process(name: str) -> None:
    """The names of what is unpickled, so that another place is looked at by a person first."""
    taken = {
        ast.unparse(call.args[0])
        for called, call in calls(product()[name])
        if called.endswith("loads") and called.startswith("pickle")
    }
    assert taken <= {"request", "packed", "answer"}
