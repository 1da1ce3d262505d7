"""Evidence anybody can verify: entries, Merkle log, signed checkpoints, chain anchors, auditor.

Start at `ledger.entry` (what a record says and how it is sealed), `ledger.log` (the tree over a
storage port), `ledger.checkpoint` and `ledger.cosignature` (signed heads), `ledger.witness`
(cosigning others' heads), `ledger.chain` (the AnchorRegistry contract) and `ledger.audit` (checking
it all, trusting no server; `ledger.report_html` prints what it found). `ledger.tile_store` proves
from published tiles; `ledger.evm` is a durable chain that needs nothing but Python.
"""
