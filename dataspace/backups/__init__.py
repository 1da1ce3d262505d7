"""Backups of a node: made while it runs, verified without it, restored as they were.

`archive` is the file, `manifest` what it says of itself, `databases` copies of a database in one
state, `making` and `restoring` the two ways.
"""
