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
    ("rtrs_create_transport", "Set what clients are allowed, once, before the first listener", [
        ("trtype", {"required": True, "help": "TCP; RDMA is not built"}),
        ("max_queue_depth", {"type": int, "help": "Requests that a client may have under way on each of its reactors, 1 to 4096; default 256"}),
        ("max_io_size", {"type": int, "help": "Most bytes of data in one request: a multiple of 4096, up to 8388608; default 1048576"}),
    ]),
    ("rtrs_add_listener", "Let other hosts come in by an address", [
        ("trtype", {"required": True, "help": "TCP; RDMA is not built"}),
        ("traddr", {"required": True, "help": "Own IP address; 0.0.0.0 or :: for all"}),
        ("trsvcid", {"required": True, "help": "Port: 1 to 65535"}),
        ("adrfam", {"help": "IPv4 or IPv6: what traddr is; checked"}),
        ("key", {"help": "Name of the key that every client must have under the same name; without one only clients on this host are let in, unless --insecure-sessions"}),
        ("data_digest", {"type": _bool, "help": "Digests (CRC32C) of data; used if either side wants them; default true"}),
        ("reactor", {"type": int, "help": "Which reactor accepts there; connections go on to the reactors of their lanes; default: 0"}),
    ]),
    ("rtrs_get_listeners", "List where other hosts come in, and who was refused", []),
    ("rtrs_create_session", "Connect to a peer and stay connected, before anything uses it", [
        ("paths", {"nargs": "+", "required": True, "help": "Ways to the peer's listeners: ip:ADDRESS:PORT or ip:SOURCE@ip:ADDRESS:PORT, IPv6 in brackets"}),
        ("key", {"help": "Name of the key that the peer's listener asks for, in both keyrings; needed unless the peer is on this host or both targets run with --insecure-sessions"}),
        ("policy", {"choices": ["round_robin", "min_inflight", "min_latency"], "help": "How a path is chosen for a request; default: min_inflight"}),
        ("data_digest", {"type": _bool, "help": "Digests (CRC32C) of data; used if either side wants them; default true"}),
    ]),
    ("rtrs_get_sessions", "List sessions to peers and of clients, with their lanes and paths", [
        ("session", {"help": "UUID of the session to show, or a path of it; all without it, those of clients included"}),
    ]),
    ("rtrs_add_path", "Add a way to a session's peer", [
        ("session", {"required": True, "help": "UUID of the session, or a path that no other has"}),
        ("path", {"required": True, "help": "ip:ADDRESS:PORT or ip:SOURCE@ip:ADDRESS:PORT, IPv6 in brackets"}),
    ]),
    ("rtrs_set_multipath_policy", "Choose how a session's paths are chosen for requests", [
        ("session", {"required": True, "help": "UUID of the session, or a path that no other has"}),
        ("policy", {"choices": ["round_robin", "min_inflight", "min_latency"], "required": True, "help": "One after the other, the one with the fewest requests under way, or the one whose beats come back soonest"}),
    ]),
    ("rtrs_reconnect_session", "Try all paths of a session that are not up at once", [
        ("session", {"required": True, "help": "UUID of the session, or a path that no other has"}),
    ]),
    ("rtrs_remove_path", "Take a way to a session's peer away; what was under way on it goes by others", [
        ("session", {"required": True, "help": "UUID of the session, or a path that no other has"}),
        ("path", {"required": True, "help": "ip:ADDRESS:PORT or ip:SOURCE@ip:ADDRESS:PORT, IPv6 in brackets"}),
    ]),
    ("rtrs_delete_session", "End a session that rtrs_create_session made and nothing uses", [
        ("session", {"required": True, "help": "UUID of the session, or a path that no other has"}),
    ]),
    ("rtrs_remove_listener", "End a listener and the connections that came through it; clients that have another way in go on", [
        ("traddr", {"required": True, "help": "Own IP address, as it was added"}),
        ("trsvcid", {"required": True, "help": "Port"}),
        ("trtype", {"help": "TCP; RDMA is not built"}),
        ("adrfam", {"help": "IPv4 or IPv6: what traddr is; checked"}),
    ]),
]
