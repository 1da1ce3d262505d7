"""Usage contracts as values: policies, decisions with reasons, protocol messages, signed orders.

Start at `contracts.evaluation.decide` (may this be done, and which clause says so),
`contracts.messages.parse` (bytes of a Dataspace Protocol message to a model) and
`contracts.negotiation.next_state` (what a message does to a negotiation). No network, no storage;
time and keys are arguments.
"""
