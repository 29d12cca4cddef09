#!/usr/bin/env bash
# The uring bdev beside fio on one file: the same flags (io_uring, O_DIRECT, registered file), the same core, one after
# the other in each round, so that ratios hold on a machine whose pace changes. Needs fio.
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
ours() { # workload, queue depth
    .build/release/rmr-perf bdev -c "$dir/config.json" -m "[$core]" --disable-cpumask-locks -w "$1" -q "$2" -o 4096 \
        -t "$seconds" --json 2>/dev/null | sed 's/.*"iops":\([0-9.]*\).*/\1/' | head -1
}
theirs() {
    fio --name=f --filename="$dir/disk" --ioengine=io_uring --direct=1 --registerfiles=1 --rw="$1" --iodepth="$2" --bs=4k \
        --time_based --runtime="$seconds" --cpus_allowed="$core" --randrepeat=0 --norandommap --group_reporting \
        --output-format=terse --terse-version=3 2>/dev/null | awk -F';' '{ print $8 + $49 }'
}
echo "$(fio --version), Linux $(uname -r), $folder on $(df --output=fstype "$folder" | tail -1), load $(cut -d' ' -f1 /proc/loadavg)"
for workload in randread randwrite; do
    for depth in 1 32; do
        for round in $(seq "$rounds"); do
            a=$(ours $workload $depth) b=$(theirs $workload $depth)
            awk -v w=$workload -v d=$depth -v r="$round" -v a="$a" -v b="$b" \
                'BEGIN { printf "%-9s qd %-3d round %d: rmr-perf %9.0f IO/s, fio %9.0f IO/s, ratio %.2f\n", w, d, r, a, b, a / b }'
        done
    done
done
