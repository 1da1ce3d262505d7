"""Who may use a node: rules, keys, people from an identity provider, acts and their approval."""
