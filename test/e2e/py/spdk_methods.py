"""Prints the methods that SPDK's client knows by itself, one a line."""

from spdk.spdk_rpc import create_parser

_, subparsers = create_parser()
print("\n".join(subparsers.choices))
