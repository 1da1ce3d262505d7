"""The node's HTTP face: routes translate between requests and the parts that do the work."""
