"""What those who run a node see of it: metrics, logs, traces, health, and why something waits."""
