# Made by `RMR_UPDATE=1 cargo test -p test-e2e --test generated` from the schema of the target.
"""The methods of rmr_tgt that SPDK's client does not know, as a plugin for it:

    PYTHONPATH=rpc/plugin spdk-rpc --plugin rmr_rpc rmr_get_version
"""

import json


def spdk_rpc_plugin_initialize(subparsers):
    """Adds a subcommand for each method; SPDK's client calls it when it loads the plugin."""
    for method, summary, options in METHODS:
        parser = subparsers.add_parser(method, help=summary, description=summary)
        for name, keywords in options:
            # Destinations of their own: SPDK's client keeps its options in the same namespace.
            parser.add_argument("--" + name.replace("_", "-"), dest="rmr_" + name, **keywords)
        parser.set_defaults(func=_caller(method, [name for name, _ in options]))


def _caller(method, names):
    def call(args):
        given = {name: getattr(args, "rmr_" + name) for name in names}
        params = {name: value for name, value in given.items() if value is not None}
        result = args.client.call(method, params)
        # None is what a dry or batched call brings: nothing yet.
        if result is not None:
            print(json.dumps(result, indent=2))

    return call


def _bool(text):
    values = {"true": True, "false": False}
    if text not in values:
        raise ValueError(text)
    return values[text]


def _json(text):
    try:
        return json.loads(text)
    except ValueError:
        return text


# Name, summary, and the options with their keywords for argparse.
METHODS = [
    ("rmr_get_schema", "Describe every method: parameters as JSON Schema, examples, phase", []),
    ("rmr_get_version", "Show the version of this target", []),
    ("rmr_get_memory", "Show the memory used for buffers and memory disks, and what would improve it", []),
    ("bdev_set_io_trace", "Note one of so many IOs: what it was, when it began and ended", [
        ("every", {"type": int, "required": True, "help": "Note one of so many IOs of each io channel, and forget what was noted before; 0: none"}),
        ("name", {"help": "Name, alias or UUID of the bdev; all that there are now without it"}),
    ]),
    ("bdev_get_io_trace", "Show the IOs that were noted, by io channel", [
        ("name", {"help": "Name, alias or UUID of the bdev; all that are traced without it"}),
        ("count", {"type": int, "help": "Most records of each io channel, the newest; default 256, which is all that are kept"}),
    ]),
]
