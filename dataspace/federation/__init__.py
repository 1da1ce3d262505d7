"""The federated catalogue 联邦目录: what all participants of the space show this node."""
