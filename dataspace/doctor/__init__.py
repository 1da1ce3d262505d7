"""The examination of a node: everything that can be wrong with a home, looked for and told with
what helps. It writes nothing, and works beside a running node as on a stopped one.
"""
