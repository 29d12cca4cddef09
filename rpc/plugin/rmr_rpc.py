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
    ("bdev_brmr_create", "Assemble a pool and make its bdev; a new pool if all of its stores are new", [
        ("name", {"required": True, "help": "Name of the new bdev"}),
        ("pool", {"required": True, "help": "UUID of the pool, as its stores were created with; the bdev's as well"}),
        ("members", {"type": _json, "required": True, "help": "Its members; of a new pool all of them"}),
        ("takeover", {"type": _bool, "help": "Take it over from another client that is still alive; default false"}),
        ("force", {"type": int, "nargs": "+", "help": "Start with these members although others with newer data cannot be reached: what only those hold is lost"}),
        ("accept", {"type": int, "help": "After a split brain: start from this member's history and discard the others'"}),
        ("io_timeout_ms", {"type": int, "help": "A request that has not succeeded after this many ms fails; default 0: it waits for ever"}),
        ("readonly", {"type": _bool, "help": "The bdev takes no writes; default false. The pool is held as by any client: nobody else can write either"}),
        ("wait_ms", {"type": int, "help": "How long the pool may take to assemble, in ms; default 10000"}),
        ("block_size", {"type": int, "help": "Bytes of a block; with num_blocks and request_blocks, as saved configurations have them: the bdev appears at once, and its requests wait until the pool is assembled"}),
        ("num_blocks", {"type": int, "help": "Blocks; see block_size"}),
        ("request_blocks", {"type": int, "help": "Longest request in blocks; see block_size"}),
    ]),
    ("bdev_brmr_delete", "Delete a replicated bdev and let its pool go; the stores keep all", [
        ("name", {"required": True, "help": "Name, alias or UUID of a replicated bdev"}),
    ]),
    ("bdev_brmr_get_devices", "Replicated bdevs: their pools, legs, and why what is not up to date is not", [
        ("name", {"help": "Name, alias or UUID of the replicated bdev to show; all without it"}),
    ]),
    ("rmr_add_leg", "Add a member with a new store to a pool; it copies everything", [
        ("name", {"required": True, "help": "Name, alias or UUID of a replicated bdev"}),
        ("member_id", {"type": int, "required": True, "help": "Number of the new member: 0 to 7; its store must be new"}),
        ("paths", {"nargs": "+", "required": True, "help": "Ways to its node's listeners"}),
        ("key", {"help": "Name of the key that all nodes have for it"}),
    ]),
    ("rmr_remove_leg", "Take a member out of a pool for good", [
        ("name", {"required": True, "help": "Name, alias or UUID of a replicated bdev"}),
        ("member_id", {"type": int, "required": True, "help": "Number of the member that is to leave"}),
        ("force", {"type": _bool, "help": "Even though it may hold the last copy of some data, which is lost then; default false"}),
    ]),
    ("rmr_set_leg_maintenance", "Keep a member out of the set while its node is worked on, or let it in again", [
        ("name", {"required": True, "help": "Name, alias or UUID of a replicated bdev"}),
        ("member_id", {"type": int, "required": True, "help": "Number of the member"}),
        ("enable", {"type": _bool, "required": True, "help": "true: it leaves the set and stays out; false: it comes back and copies what it missed"}),
    ]),
    ("rmr_replace_leg", "Say that a member has another, empty disk: it copies everything", [
        ("name", {"required": True, "help": "Name, alias or UUID of a replicated bdev"}),
        ("member_id", {"type": int, "required": True, "help": "Number of the member"}),
        ("force", {"type": _bool, "help": "Even though it may hold the last copy of some data, which is lost then; default false"}),
    ]),
    ("rmr_discard_leg", "Give up what a member wrote in another history: it copies everything", [
        ("name", {"required": True, "help": "Name, alias or UUID of a replicated bdev"}),
        ("member_id", {"type": int, "required": True, "help": "Number of the member"}),
        ("force", {"type": _bool, "help": "Even though it may hold the last copy of some data, which is lost then; default false"}),
    ]),
    ("bdev_brmr_resize", "Make a replicated bdev larger: all members first, then whoever has it open is told", [
        ("name", {"required": True, "help": "Name, alias or UUID of a replicated bdev"}),
        ("size", {"type": int, "required": True, "help": "Bytes that it is to have: more than now, a multiple of its block size, and every member's disk has to have the room"}),
    ]),
    ("rmr_enable_pool", "Let a replicated bdev serve again whose pool another client has taken over", [
        ("name", {"required": True, "help": "Name, alias or UUID of a replicated bdev"}),
        ("takeover", {"type": _bool, "help": "Take it back from the other client although that one is still alive; default false"}),
        ("force", {"type": int, "nargs": "+", "help": "Start with these members although others with newer data cannot be reached: what only those hold is lost"}),
        ("accept", {"type": int, "help": "After a split brain: start from this member's history and discard the others'"}),
        ("wait_ms", {"type": int, "help": "How long it may take, in ms, before this call ends with an error; default 10000. The pool goes on trying"}),
    ]),
    ("rmr_verify_pool", "Compare the copies of a replicated bdev, chunk by chunk, and repair where it is known which is right", [
        ("name", {"required": True, "help": "Name, alias or UUID of a replicated bdev"}),
        ("believe", {"type": int, "help": "Where copies differ this member's counts, whatever the others say; without it more than half of at least three"}),
        ("first_chunk", {"type": int, "help": "Chunk to begin with: `next_chunk` of one that was stopped; default 0"}),
        ("pause_us", {"type": int, "help": "Pause between two chunks in us, to spare the disks; default 0"}),
    ]),
    ("rmr_stop_verify", "Stop comparing the copies of a replicated bdev after the chunk in hand", [
        ("name", {"required": True, "help": "Name, alias or UUID of a replicated bdev"}),
    ]),
    ("rmr_get_verify", "Show how far the comparison of the copies is, and what it found", [
        ("name", {"required": True, "help": "Name, alias or UUID of a replicated bdev"}),
    ]),
    ("rmr_run_load", "Read and write all over a bdev, check every block that is read, and flush it; only with --allow-load", [
        ("name", {"required": True, "help": "Name of the bdev"}),
        ("overwrite", {"type": _bool, "required": True, "help": "true: what the bdev holds may be overwritten"}),
        ("requests", {"type": int, "help": "Reads and writes to make, before all that was written is read back; default 1000"}),
        ("queue_depth", {"type": int, "help": "At a time; default 8"}),
        ("io_size", {"type": int, "help": "Bytes of each; default 4096"}),
        ("read_percent", {"type": int, "help": "Of the requests, how many are reads, in percent; default 50"}),
        ("state", {"help": "File in which is kept what is known of the writes: a later load with it checks first that all of them are still there"}),
        ("limit_s", {"type": int, "help": "It ends after so many seconds at the latest; default 60"}),
    ]),
    ("rtrs_create_transport", "Set what clients are allowed, once, before the first listener", [
        ("trtype", {"required": True, "help": "TCP; RDMA is not built"}),
        ("max_queue_depth", {"type": int, "help": "Requests that a client may have under way on each of its reactors, 1 to 4096; default 256"}),
        ("max_io_size", {"type": int, "help": "Most bytes of data in one request: a multiple of 4096, up to 2097152; default 1048576"}),
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
    ("brmr_create_store", "Make a store of a replicated pool on an empty bdev, and open it", [
        ("pool", {"required": True, "help": "UUID of the pool, or a label for it"}),
        ("bdev", {"required": True, "help": "Name, alias or UUID of the bdev; it must be empty"}),
        ("member_id", {"type": int, "required": True, "help": "Which member of the pool it is: 0 to 7"}),
        ("uuid", {"help": "UUID of the pool, when the label is not known here yet"}),
        ("mapped_size", {"type": int, "help": "Bytes of the device, the same on all members; default: all that there is room for"}),
        ("chunk_size", {"type": int, "help": "Bytes per chunk, the same on all members: a power of two from 65536; default 131072"}),
        ("block_size", {"type": int, "help": "Bytes per block of the device, the same on all members: 512, 1024, 2048 or 4096; default 4096"}),
        ("write_through", {"type": _bool, "help": "Whether every write is durable before it is answered; default false"}),
        ("share_node", {"type": _bool, "help": "Even if this process holds another member of the pool, so that one death takes both: for measurements; default false"}),
    ]),
    ("brmr_add_store", "Open the store that is on a bdev again, or replace a lost one", [
        ("pool", {"required": True, "help": "UUID of the pool, or a label for it"}),
        ("bdev", {"required": True, "help": "Name, alias or UUID of the bdev"}),
        ("uuid", {"help": "UUID of the pool, when the label is not known here yet"}),
        ("mapped_size", {"type": int, "help": "Bytes that the device must have"}),
        ("write_through", {"type": _bool, "help": "Whether every write is durable before it is answered; default false"}),
        ("share_node", {"type": _bool, "help": "Even if this process holds another member of the pool, so that one death takes both: for measurements; default false"}),
        ("mode", {"choices": ["replace"], "help": "replace: the bdev is empty and takes the place of a lost one, as the same member"}),
        ("member_id", {"type": int, "help": "With mode=replace: which member it is"}),
        ("chunk_size", {"type": int, "help": "With mode=replace: bytes per chunk, as the other members have"}),
        ("block_size", {"type": int, "help": "With mode=replace: bytes per block, as the other members have"}),
    ]),
    ("brmr_remove_store", "Close a store; what is on its bdev stays", [
        ("pool", {"required": True, "help": "UUID or label of the pool"}),
        ("force", {"type": _bool, "help": "Even if it may be the last up-to-date copy; default false"}),
    ]),
    ("brmr_delete_store", "Close a store and make its bdev none: its data is given up", [
        ("pool", {"required": True, "help": "UUID or label of the pool"}),
        ("force", {"type": _bool, "help": "Even if it may be the last up-to-date copy; default false"}),
    ]),
    ("rmr_set_sync_limit", "Say how fast chunks are copied to a store; what is not given stays", [
        ("pool", {"required": True, "help": "UUID or label of the pool"}),
        ("mbytes_per_sec", {"type": int, "help": "Copied at most, MiB a second; 0: no limit"}),
        ("min_mbytes_per_sec", {"type": int, "help": "Not slowed below this because of clients, MiB a second"}),
        ("busy_share_pct", {"type": int, "help": "Share of the time that copies take while clients are busy, per cent"}),
    ]),
    ("brmr_get_stores", "List the stores of this node, their bdevs and sizes, and why they do not serve", [
        ("pool", {"help": "UUID or label of one pool"}),
    ]),
    ("rmr_get_server_pools", "List the pools of which this node has a store, and how replication stands", [
        ("name", {"help": "Label or UUID of one pool"}),
    ]),
    ("rmr_get_store_metadata", "Show the metadata of a store, decoded: superblock, places, epoch record", [
        ("pool", {"required": True, "help": "UUID or label of the pool"}),
    ]),
]
