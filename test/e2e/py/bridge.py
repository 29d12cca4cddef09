"""SPDK's client class, driven from outside: one call as JSON per line in, one reply as JSON per line out."""

import json
import sys

from spdk.rpc.client import JSONRPCClient, JSONRPCException

# The client counts its own CPU time against this, but each read of the socket waits so long at most.
TIMEOUT_SECONDS = 30

client = JSONRPCClient(sys.argv[1], timeout=TIMEOUT_SECONDS)
for line in sys.stdin:
    call = json.loads(line)
    try:
        reply = {"result": client.call(call["method"], call["params"])}
    except JSONRPCException as error:
        # The client raises the error object as text, behind this word.
        _, found, text = error.message.partition("\nresponse:\n")
        if not found:
            raise
        reply = {"error": json.loads(text)}
    print(json.dumps(reply), flush=True)
