#!/usr/bin/env bash
# The uring bdev beside fio on one file: the same flags (io_uring, O_DIRECT, registered file), the same core, one after
# the other in each round, so that ratios hold on a machine whose pace changes. Both with registered buffers and without
# them. After the rounds: medians of IO/s, of the processor's time in the kernel per IO, and of the ratios within a round.
# Needs fio.
# Usage: perf/uring-fio.sh [FOLDER] [SECONDS] [ROUNDS]; FOLDER must be on a file system that takes O_DIRECT.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v fio >/dev/null || { echo "skipped: fio is not installed (apt-get install fio)"; exit 0; }
folder=${1:-/var/tmp} seconds=${2:-4} rounds=${3:-3} core=${CORE:-0}
cargo build --quiet --release --package rmr-perf
dir=$(mktemp -d "$folder/uring-fio.XXXXXX")
trap 'rm -rf "$dir"' EXIT
# Written whole: reads of holes would measure nothing.
dd if=/dev/urandom of="$dir/disk" bs=1M count=1024 status=none conv=fsync
cat >"$dir/config.json" <<JSON
{"subsystems":[{"subsystem":"bdev","config":[{"method":"bdev_uring_create",
 "params":{"name":"U","filename":"$dir/disk","block_size":4096}}]}]}
JSON
ours() { # workload, queue depth, further options
    .build/release/rmr-perf bdev -c "$dir/config.json" -m "[$core]" --disable-cpumask-locks -w "$1" -q "$2" -o 4096 \
        -t "$seconds" --json "${@:3}" 2>/dev/null | sed 's/.*"iops":\([0-9.]*\).*/\1/' | head -1
}
theirs() {
    fio --name=f --filename="$dir/disk" --ioengine=io_uring --direct=1 --registerfiles=1 --rw="$1" --iodepth="$2" --bs=4k \
        --time_based --runtime="$seconds" --cpus_allowed="$core" --randrepeat=0 --norandommap --group_reporting \
        --output-format=terse --terse-version=3 "${@:3}" 2>/dev/null | awk -F';' '{ print $8 + $49 }'
}
timed() { # name, command …: a line of name, IO/s, seconds in the kernel
    TIMEFORMAT=%S
    { time "${@:2}" >"$dir/iops"; } 2>"$dir/kernel"
    echo "$1 $(cat "$dir/iops") $(cat "$dir/kernel")"
}
echo "$(fio --version), Linux $(uname -r), $folder on $(df --output=fstype "$folder" | tail -1), load $(cut -d' ' -f1 /proc/loadavg)"
for workload in randread randwrite; do
    for depth in 1 32; do
        for round in $(seq "$rounds"); do
            timed registered ours $workload $depth
            timed fio-registered theirs $workload $depth --fixedbufs=1
            timed plain ours $workload $depth --no-registered-buffers
            timed fio-plain theirs $workload $depth --fixedbufs=0
        done | awk -v what="$workload qd $depth" -v seconds="$seconds" -f perf/uring-fio.awk
    done
done
