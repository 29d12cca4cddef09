"""Loads a plugin for SPDK's client from a file and prints the call that the arguments make, without a target."""

import argparse
import importlib.util
import json
import sys


class Recorder:
    def call(self, method, params):
        print(json.dumps({"method": method, "params": params}))


spec = importlib.util.spec_from_file_location("plugin", sys.argv[1])
plugin = importlib.util.module_from_spec(spec)
spec.loader.exec_module(plugin)
parser = argparse.ArgumentParser()
plugin.spdk_rpc_plugin_initialize(parser.add_subparsers(dest="called_rpc_name"))
args = parser.parse_args(sys.argv[2:])
args.client = Recorder()
args.func(args)
