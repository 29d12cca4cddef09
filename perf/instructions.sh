#!/usr/bin/env bash
# Instructions per IO of the null bdev, of one whose latencies a histogram counts, and of a passthru and a split part on one, load generator and block layer included, by callgrind: (Ir(2N) - Ir(N)) / N.
# Then those of the uring bdev's submit, with registered buffers and without.
# Counts, not seconds: the same on a busy machine. Only what the job's poll calls is counted, so the reactor's own
# turn is not in it. Needs valgrind. The target polls, because valgrind lets no other thread run while one sleeps
# in an io_uring.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v valgrind >/dev/null || { echo "skipped: valgrind is not installed (apt-get install valgrind)"; exit 0; }
cargo build --quiet --release --package rmr-perf
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
cat >"$out/config.json" <<JSON
{"subsystems":[{"subsystem":"bdev","config":[
 {"method":"bdev_null_create","params":{"name":"Null0","num_blocks":2097152,"block_size":512}},
 {"method":"bdev_null_create","params":{"name":"Counted","num_blocks":2097152,"block_size":512}},
 {"method":"bdev_enable_histogram","params":{"name":"Counted","enable":true}},
 {"method":"bdev_null_create","params":{"name":"Null1","num_blocks":2097152,"block_size":512}},
 {"method":"bdev_null_create","params":{"name":"Null2","num_blocks":2097152,"block_size":512}},
 {"method":"bdev_passthru_create","params":{"name":"Pass","base_bdev_name":"Null1"}},
 {"method":"bdev_split_create","params":{"base_bdev":"Null2","split_count":2}}]}]}
JSON
# What is counted; for files the channel's submit alone, as how often it is polled depends on the disk.
function_counted='*perf_load::job::Job as *Poller*::poll'
instructions() { # bdev, queue depth, number of IOs, further options
    timeout 300 valgrind --tool=callgrind --fair-sched=yes --callgrind-out-file="$out/callgrind" \
        --toggle-collect="$function_counted" \
        .build/release/rmr-perf bdev -c "$out/config.json" -b "$1" -w randread -q "$2" --ios "$3" "${@:4}" --json --no-huge --poll \
        2>&1 >/dev/null | awk '/Collected/ { gsub(",", "", $NF); print $NF }'
}
for depth in 1 128; do
    for option in "" --no-latency; do
        for bdev in Null0 Counted Pass Null2p1; do
            few=$(instructions "$bdev" "$depth" 20000 $option)
            many=$(instructions "$bdev" "$depth" 40000 $option)
            echo "$bdev, randread 4096, qd $depth ${option:-with latencies}: $(( (many - few) / 20000 )) instructions per IO"
        done
    done
done
dd if=/dev/urandom of="$out/disk" bs=1M count=64 status=none
cat >"$out/config.json" <<JSON
{"subsystems":[{"subsystem":"bdev","config":[{"method":"bdev_uring_create",
 "params":{"name":"File","filename":"$out/disk","block_size":4096}}]}]}
JSON
function_counted='*UringChannel as *Channel*::submit'
for depth in 1 32; do
    for option in "" --no-registered-buffers; do
        few=$(instructions File "$depth" 1000 $option)
        many=$(instructions File "$depth" 3000 $option)
        echo "file, randread 4096, qd $depth ${option:-with registered buffers}, submit alone: $(( (many - few) / 2000 )) instructions per IO"
    done
done
