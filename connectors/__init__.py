"""Data sources as streams of Arrow record batches, and what makes their rows comparable.

Start at `connectors.source.open_source` (a URL to rows), `connectors.identifiers` (a resident's
number as one spelling, with a quality report), `connectors.personal` (rows read under consent) and
`connectors.table.extract` (everything a computation needs, in one call).
"""
