"""Private computation protocols as roles: bytes in, bytes out, no network, no storage, no clock.

Start at `privacy.kinds` (what can be computed, who learns what) and `privacy.role` (how a
protocol is driven); `privacy.transcript` makes every participant sign the same account of a run.
"""
