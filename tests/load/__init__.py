"""Real nodes under a sustained mixed load, and what it cost them (`./run load`)."""
