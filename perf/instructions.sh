#!/usr/bin/env bash
# Instructions per IO of the null bdev, load generator and block layer included, by callgrind: (Ir(2N) - Ir(N)) / N.
# Counts, not seconds: the same on a busy machine. Only what the job's poll calls is counted, so the reactor's own
# turn is not in it. Needs valgrind. The target polls, because valgrind lets no other thread run while one sleeps
# in an io_uring.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v valgrind >/dev/null || { echo "skipped: valgrind is not installed (apt-get install valgrind)"; exit 0; }
cargo build --quiet --release --package rmr-perf
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
instructions() { # queue depth, number of IOs, further options
    timeout 300 valgrind --tool=callgrind --fair-sched=yes --callgrind-out-file="$out/callgrind" \
        --toggle-collect='*perf_load::job::Job as *Poller*::poll' \
        .build/release/rmr-perf bdev -c config/null.json -w randread -q "$1" --ios "$2" "${@:3}" --json --no-huge --poll \
        2>&1 >/dev/null | awk '/Collected/ { gsub(",", "", $NF); print $NF }'
}
for depth in 1 128; do
    for option in "" --no-latency; do
        few=$(instructions "$depth" 20000 $option)
        many=$(instructions "$depth" 40000 $option)
        echo "null, randread 4096, qd $depth ${option:-with latencies}: $(( (many - few) / 20000 )) instructions per IO"
    done
done
