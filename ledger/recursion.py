"""Undo what the Ethereum libraries do to the interpreter.

Importing web3 or py-evm raises the recursion limit to 100,000. With that limit a body of nested
brackets, 100 kB of `[`, overflows the C stack inside the standard JSON parser and kills the whole
process; with the interpreter's own limit it is a RecursionError.
"""

from __future__ import annotations

import sys

# CPython's default. Our contracts nest two calls deep, far below what it allows.
RECURSION_LIMIT = 1_000


def restore_recursion_limit() -> None:
    """Put the limit back. To be called by every module that imports web3, py-evm or py_ecc,
    after its imports; once imported they do not raise it again."""
    if sys.getrecursionlimit() > RECURSION_LIMIT:
        sys.setrecursionlimit(RECURSION_LIMIT)
