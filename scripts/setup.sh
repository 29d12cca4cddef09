#!/usr/bin/env bash
# Prepares a host for rmr_tgt: binds NVMe controllers to a user-space driver and raises the pool of hugepages.
# Run `setup.sh help`. Sourced, it only defines its functions.
#
# Rules: a controller is bound only if it is known that nobody uses what is on it. What cannot be judged counts as used.
# Hugepages are raised, never lowered. Every change is said, with the way back.

set -u

SYSFS=${SYSFS:-/sys}
PROC=${PROC:-/proc}
DEV=${DEV:-/dev}
STATE=${STATE:-/run/rmr_tgt-setup}
HUGEMEM=${HUGEMEM:-2048}
NRHUGE=${NRHUGE:-}
HUGENODE=${HUGENODE:-}
HUGEPGSZ=${HUGEPGSZ:-2048}
PCI_ALLOWED=${PCI_ALLOWED:-}
PCI_BLOCKED=${PCI_BLOCKED:-}
PCI_FORCE=${PCI_FORCE:-}
DRIVER_OVERRIDE=${DRIVER_OVERRIDE:-vfio-pci}

NVME_CLASS=0x010802
PCI=$SYSFS/bus/pci
# Binding is asynchronous: tenths of a second until a driver must have taken a device, or a block device be there.
BIND_TENTHS=100
FAILED=0

say() { printf '%s\n' "$*"; }
fail() {
    printf 'setup.sh: %s\n' "$*" >&2
    FAILED=1
}
die() {
    fail "$@"
    exit 1
}

usage() {
    cat <<'TEXT'
usage: [VARIABLE=VALUE ...] setup.sh [config | status | reset | help]

  config  bind NVMe controllers that nobody uses, and raise the pool of hugepages (default)
  status  show controllers, what is on them, and why they would be left alone; and hugepages
  reset   give the controllers that config has bound back to the driver nvme; hugepages stay
  help    show this

  HUGEMEM=2048      MiB of hugepages to have (default 2048)
  NRHUGE=N          the same as a number of pages; wins over HUGEMEM
  HUGENODE=0,1      so many on each of these NUMA nodes; also nodes_hp[0]=512,nodes_hp[1]=256
  HUGEPGSZ=2048     size of a hugepage in KiB
  PCI_ALLOWED="A B" only these controllers, as 0000:01:00.0; `none`: no controller
  PCI_BLOCKED="A B" none of these; wins over PCI_ALLOWED
  PCI_FORCE="A B"   these even if they hold data, or what they hold cannot be seen. Never one that is in use.
  DRIVER_OVERRIDE=uio_pci_generic
                    bind to this instead of vfio-pci: no IOMMU needed, and none protects memory from the device

The pool of hugepages is never lowered. A controller is left alone if anything on it is mounted, swap, part of a device
above it (LVM, md, crypt, multipath), open, exported, or holds partitions or a known signature.
TEXT
}

# --- reading sysfs --------------------------------------------------------------------------------------------------

# The first line of a file, or nothing.
line_of() {
    local text=''
    { read -r text < "$1"; } 2>/dev/null
    printf '%s' "$text"
}

# The name a link points to, or nothing.
link_name() { [ -e "$1" ] && basename "$(readlink -f "$1")"; }

controllers() {
    local device
    for device in "$PCI"/devices/*; do
        [ "$(line_of "$device/class")" = "$NVME_CLASS" ] && basename "$device"
    done
    return 0
}

driver_of() { link_name "$PCI/devices/$1/driver" || true; }

# Is word $1 in list $2?
listed() {
    local word
    for word in $2; do
        [ "$word" = "$1" ] && return 0
    done
    return 1
}

# Disks of controller $1. With native multipath the controller has paths, nvme0c1n2, of the disk nvme0n2.
disks_of() {
    local entry name
    for entry in "$PCI/devices/$1"/nvme/nvme*/nvme*n*; do
        [ -e "$entry" ] || continue
        name=$(basename "$entry")
        case $name in nvme*c*n*) name=${name%c*}n${name##*n} ;; esac
        printf '%s\n' "$name"
    done | sort -u
}

# Disk $1 and its partitions.
parts_of() {
    local entry
    printf '%s\n' "$1"
    for entry in "$SYSFS/block/$1/$1"p*; do
        [ -e "$entry/partition" ] && basename "$entry"
    done
    return 0
}

sysfs_of() {
    if [ -e "$SYSFS/block/$1" ]; then printf '%s' "$SYSFS/block/$1"; else printf '%s' "$SYSFS/block/${1%p*}/$1"; fi
}

# --- is it in use? ----------------------------------------------------------------------------------------------------

# Each prints why block device $1 must not be taken, or nothing.

why_mounted() {
    local number point
    number=$(line_of "$(sysfs_of "$1")/dev")
    point=$(cat "$PROC"/self/mountinfo "$PROC"/[0-9]*/mountinfo 2>/dev/null |
        awk -v number="$number" -v source="/dev/$1" '
            { for (i = 7; i < NF && $i != "-"; i++); if ($3 == number || $(i + 2) == source) { print $5; exit } }')
    [ -z "$point" ] || printf '%s' "$1 is mounted on $point"
}

why_swap() {
    if awk '{ print $1 }' "$PROC/swaps" 2>/dev/null | grep -qx "/dev/$1"; then printf '%s' "$1 is swap"; fi
}

why_held() {
    local holder name device
    for holder in "$(sysfs_of "$1")"/holders/*; do
        [ -e "$holder" ] || [ -L "$holder" ] || continue
        name=$(line_of "$SYSFS/block/$(basename "$holder")/dm/name")
        printf '%s' "$1 is part of $(basename "$holder")${name:+ ($name)}"
        return
    done
    for device in "$SYSFS"/fs/btrfs/*/devices/"$1"; do
        if [ -e "$device" ] || [ -L "$device" ]; then
            printf '%s' "$1 is part of a mounted btrfs"
            return
        fi
    done
}

# The kernel's own users: loop devices, NVMe-oF exports.
why_exported() {
    local file
    for file in "$SYSFS"/block/loop*/loop/backing_file "$SYSFS"/kernel/config/nvmet/subsystems/*/namespaces/*/device_path; do
        if [ "$(line_of "$file")" = "/dev/$1" ]; then
            printf '%s' "$1 is used by ${file#"$SYSFS"/}"
            return
        fi
    done
}

# Processes that have device node $1 (a path below /dev) open.
openers() {
    local fd
    find "$PROC"/[0-9]*/fd -lname "/dev/$1" 2>/dev/null | while read -r fd; do
        fd=${fd#"$PROC"/}
        printf '%s ' "${fd%%/*}($(line_of "$PROC/${fd%%/*}/comm"))"
    done
}

# By the block device, or by the character device for commands of the same namespace.
why_open() {
    local who node
    for node in "$1" "ng${1#nvme}"; do
        who=$(openers "$node")
        [ -z "$who" ] || { printf '%s' "$node is open in ${who% }"; return; }
    done
}

# The last look, because it is the only one that touches the disk: the kernel reads a partition table again only if
# nobody holds the disk exclusively. That shows users of whom sysfs knows nothing, ZFS among them.
why_claimed() {
    local said
    [ -b "$DEV/$1" ] || return 0
    command -v blockdev > /dev/null || {
        printf '%s' "it cannot be told whether $1 is in use: no blockdev (util-linux)"
        return
    }
    said=$(blockdev --rereadpt "$DEV/$1" 2>&1) || printf '%s' "$1 is held by the kernel: ${said##*: }"
}

why_data() {
    local said code
    if [ "$(parts_of "$1" | wc -l)" -gt 1 ]; then
        printf '%s' "$1 has partitions"
        return
    fi
    command -v blkid > /dev/null || {
        printf '%s' "it cannot be told what $1 holds: no blkid (util-linux)"
        return
    }
    said=$(blkid -p -o export "$DEV/$1" 2>&1)
    code=$?
    # 0: something was found; 2: nothing, or it could not be read; 8: several things at once.
    case $code in
        0) printf '%s' "$1 holds $(printf '%s\n' "$said" | awk -F= '$1 == "TYPE" || $1 == "PTTYPE" { printf "%s%s", sep, $2; sep = ", " }')" ;;
        2) if [ -n "$said" ] || ! head -c 512 "$DEV/$1" > /dev/null 2>&1; then printf '%s' "$1 cannot be read"; fi ;;
        *) printf '%s' "it cannot be told what $1 holds: blkid says $code" ;;
    esac
}

# Why controller $1 is in use, or nothing. No variable changes that.
why_used() {
    local disk part check why
    for disk in $(disks_of "$1"); do
        for part in $(parts_of "$disk"); do
            for check in why_mounted why_swap why_held why_exported why_open; do
                why=$($check "$part")
                [ -z "$why" ] || { printf '%s' "$why"; return; }
            done
        done
    done
}

# Why controller $1 may hold something of value, or nothing. PCI_FORCE overrides it.
why_valued() {
    local disk state why
    if [ -z "$(driver_of "$1")" ]; then
        printf '%s' "it has no driver, so what it holds cannot be seen"
        return
    fi
    for state in "$PCI/devices/$1"/nvme/nvme*/state; do
        why=$(line_of "$state")
        case $why in live | '') ;; *) printf '%s' "its state is '$why', so what it holds cannot be seen"; return ;; esac
    done
    for disk in $(disks_of "$1"); do
        why=$(why_data "$disk")
        [ -z "$why" ] || { printf '%s' "$why"; return; }
    done
}

# Why vfio-pci would be of no use to controller $1, or nothing.
why_no_vfio() {
    local device driver
    [ "$DRIVER_OVERRIDE" = vfio-pci ] || return 0
    if [ ! -e "$PCI/devices/$1/iommu_group" ]; then
        printf '%s' "no IOMMU: boot with intel_iommu=on or amd_iommu=on, or set DRIVER_OVERRIDE=uio_pci_generic"
        return
    fi
    for device in "$PCI/devices/$1"/iommu_group/devices/*; do
        [ "$(basename "$device")" != "$1" ] || continue
        driver=$(driver_of "$(basename "$device")")
        case $driver in
            '' | vfio-pci | pci-stub | pcieport) ;;
            *) printf '%s' "shares its IOMMU group with $(basename "$device") ($driver), so vfio would refuse it"; return ;;
        esac
    done
}

# Why controller $1 is left alone, or nothing if it may be bound.
why_not() {
    local why
    if listed "$1" "$PCI_BLOCKED"; then
        printf '%s' 'PCI_BLOCKED'
    elif [ -n "$PCI_ALLOWED" ] && ! listed "$1" "$PCI_ALLOWED"; then
        printf '%s' 'not in PCI_ALLOWED'
    else
        case $(driver_of "$1") in
            nvme | '') ;;
            vfio-pci | uio_pci_generic) printf '%s' "bound to $(driver_of "$1")"; return ;;
            *) printf '%s' "its driver is $(driver_of "$1"), which is not nvme"; return ;;
        esac
        why=$(why_used "$1")
        [ -n "$why" ] || why=$(why_no_vfio "$1")
        if [ -z "$why" ] && ! listed "$1" "$PCI_FORCE"; then
            why=$(why_valued "$1")
            [ -z "$why" ] || why="$why; PCI_FORCE=\"$1\" takes it all the same"
        fi
        printf '%s' "$why"
    fi
}

# --- changing things --------------------------------------------------------------------------------------------------

# Writes $2 to file $1 of sysfs.
put() { printf '%s\n' "$2" > "$1"; }

# Waits until controller $1 has driver $2.
has_driver() {
    local tenths=0
    while [ "$(driver_of "$1")" != "$2" ]; do
        [ "$tenths" -lt "$BIND_TENTHS" ] || return 1
        tenths=$((tenths + 1))
        sleep 0.1
    done
}

# Takes controller $1 from its driver and gives it to $2, chosen by driver_override $3.
rebind() {
    local old
    old=$(driver_of "$1")
    put "$PCI/devices/$1/driver_override" "$3" || return 1
    [ -z "$old" ] || put "$PCI/devices/$1/driver/unbind" "$1" || return 1
    put "$PCI/drivers_probe" "$1" || return 1
    has_driver "$1" "$2"
}

take() {
    local bdf=$1 old why disk
    for disk in $(disks_of "$bdf"); do
        why=$(why_claimed "$disk")
        [ -z "$why" ] || { say "$bdf: left alone: $why"; return; }
    done
    old=$(driver_of "$bdf")
    # First the note, then the deed: reset must find it whatever happens in between.
    note "$bdf" || { fail "$STATE cannot be written, so nothing is bound"; return; }
    if rebind "$bdf" "$DRIVER_OVERRIDE" "$DRIVER_OVERRIDE"; then
        say "$bdf: bound to $DRIVER_OVERRIDE (was: ${old:-no driver}); undo: PCI_ALLOWED=$bdf $0 reset"
    else
        fail "$bdf: $DRIVER_OVERRIDE does not take it; giving it back to nvme"
        give_back "$bdf"
    fi
}

# Remembers that controller $1 was bound here.
note() {
    mkdir -p "$(dirname "$STATE")" || return 1
    listed "$1" "$(cat "$STATE" 2>/dev/null)" || printf '%s\n' "$1" >> "$STATE"
}

forget() {
    local rest
    [ -e "$STATE" ] || return 0
    rest=$(grep -vx "$1" "$STATE")
    printf '%s' "${rest:+$rest$'\n'}" > "$STATE"
}

# Nodes by which a program holds controller $1 when it drives it itself.
user_nodes() {
    local group uio cdev
    group=$(link_name "$PCI/devices/$1/iommu_group") && printf '%s\n' "vfio/$group"
    for uio in "$PCI/devices/$1"/uio/uio*; do [ -e "$uio" ] && basename "$uio"; done
    for cdev in "$PCI/devices/$1"/vfio-dev/vfio*; do [ -e "$cdev" ] && printf '%s\n' "vfio/devices/$(basename "$cdev")"; done
    return 0
}

give_back() {
    local bdf=$1 node who
    # The kernel would wait for the program to let go, perhaps for ever.
    for node in $(user_nodes "$bdf"); do
        who=$(openers "$node")
        [ -z "$who" ] || { fail "$bdf: in use by ${who% }; stop that first"; return; }
    done
    # An empty override lets the driver be chosen by what the device is.
    if rebind "$bdf" nvme ''; then
        forget "$bdf"
        say "$bdf: given back to nvme"
    else
        fail "$bdf: nvme does not take it back; its driver is now: $(driver_of "$bdf"). Is the module nvme loaded?"
    fi
}

load_driver() {
    [ -e "$PCI/drivers/$1" ] || modprobe "$1" || true
    [ -e "$PCI/drivers/$1" ] || die "the driver $1 cannot be loaded: is the module there? (modprobe $1)"
}

# --- hugepages --------------------------------------------------------------------------------------------------------

pool() { printf '%s' "$1/hugepages-${HUGEPGSZ}kB/nr_hugepages"; }
node_pool() { pool "$SYSFS/devices/system/node/node$1/hugepages"; }
all_pool() { pool "$SYSFS/kernel/mm/hugepages"; }

# Raises pool $1 to $2 pages; $3 says which.
raise() {
    local had got
    had=$(line_of "$1")
    [ -n "$had" ] || { fail "hugepages$3: no pool of ${HUGEPGSZ} KiB pages ($1)"; return; }
    if [ "$had" -ge "$2" ]; then
        say "hugepages$3: $had of ${HUGEPGSZ} KiB, $2 wanted: enough"
        return
    fi
    put "$1" "$2" || { fail "hugepages$3: $1 cannot be written"; return; }
    got=$(line_of "$1")
    say "hugepages$3: $had raised to $got of ${HUGEPGSZ} KiB; undo: echo $had > $1"
    [ "$got" -ge "$2" ] || fail "hugepages$3: the kernel gave $got of $2; memory may be fragmented: try after a reboot"
}

number() {
    case $2 in '' | *[!0-9]*) die "$1=$2 is no number" ;; esac
}

# One line for each pool to raise: its node or `all`, and how many pages.
huge_plan() {
    local pages=$NRHUGE entry node count
    number HUGEPGSZ "$HUGEPGSZ"
    number HUGEMEM "$HUGEMEM"
    [ -n "$pages" ] || pages=$(((HUGEMEM * 1024 + HUGEPGSZ - 1) / HUGEPGSZ))
    number NRHUGE "$pages"
    [ -n "$HUGENODE" ] || printf 'all %s\n' "$pages"
    for entry in ${HUGENODE//,/ }; do
        node=${entry%%=*}
        count=$pages
        case $entry in *=*) count=${entry#*=} ;; esac
        node=${node#nodes_hp[}
        node=${node%]}
        number HUGENODE "$node"
        number HUGENODE "$count"
        printf '%s %s\n' "$node" "$count"
    done
}

raise_all() {
    local node count
    while read -r node count; do
        case $node in
            all) raise "$(all_pool)" "$count" '' ;;
            *) raise "$(node_pool "$node")" "$count" " on node $node" ;;
        esac
    done <<< "$1"
}

# --- commands ---------------------------------------------------------------------------------------------------------

need_root() {
    [ "$SYSFS" != /sys ] || [ "$(id -u)" = 0 ] || die "$1 needs root"
}

config() {
    local bdf why plan
    need_root config
    case $DRIVER_OVERRIDE in
        vfio-pci | uio_pci_generic) ;;
        *) die "DRIVER_OVERRIDE=$DRIVER_OVERRIDE: it takes vfio-pci or uio_pci_generic" ;;
    esac
    for bdf in $PCI_FORCE $PCI_BLOCKED $PCI_ALLOWED; do
        [ "$bdf" = none ] || [ -e "$PCI/devices/$bdf" ] || fail "$bdf: no such PCI device; write it as 0000:01:00.0"
    done
    plan=$(huge_plan) || exit 1
    # A misspelt name in PCI_BLOCKED must not lead to what it was to keep off.
    [ "$FAILED" = 0 ] || exit 1
    for bdf in $(controllers); do
        why=$(why_not "$bdf")
        if [ -n "$why" ]; then
            say "$bdf: left alone: $why"
        else
            load_driver "$DRIVER_OVERRIDE"
            take "$bdf"
        fi
    done
    raise_all "$plan"
}

reset() {
    local bdf bound=''
    need_root reset
    [ -e "$PCI/drivers/nvme" ] || modprobe nvme || true
    [ ! -e "$STATE" ] || bound=$(sort -u "$STATE")
    # What somebody else has bound is given back only by name.
    for bdf in $(controllers); do
        listed "$bdf" "$bound $PCI_ALLOWED" || continue
        if listed "$bdf" "$PCI_BLOCKED" || { [ -n "$PCI_ALLOWED" ] && ! listed "$bdf" "$PCI_ALLOWED"; }; then
            say "$bdf: left as it is: PCI_ALLOWED or PCI_BLOCKED says so"
            continue
        fi
        case $(driver_of "$bdf") in
            vfio-pci | uio_pci_generic | '') give_back "$bdf" ;;
            *) forget "$bdf" ;;
        esac
    done
    say "hugepages: $(line_of "$(all_pool)") of ${HUGEPGSZ} KiB stay; lower them yourself: echo N > $(all_pool)"
}

status() {
    local bdf node device disks why row='%-13s %-10s %-5s %-16s %-20s %s\n'
    # shellcheck disable=SC2059 # the format is the line above
    printf "$row" BDF vendor:dev NUMA driver disks 'left alone because'
    for bdf in $(controllers); do
        device=$PCI/devices/$bdf
        node=$(line_of "$device/numa_node")
        case $node in -1 | '') node=- ;; esac
        disks=$(disks_of "$bdf" | paste -sd, -)
        why=$(why_not "$bdf")
        # shellcheck disable=SC2059 # as above
        printf "$row" "$bdf" "$(line_of "$device/vendor" | cut -c3-):$(line_of "$device/device" | cut -c3-)" "$node" \
            "$(driver_of "$bdf" | grep . || printf '%s' -)" "${disks:--}" "${why:-- (config binds it)}"
    done
    say "hugepages of ${HUGEPGSZ} KiB: $(line_of "$(all_pool)"), free $(line_of "${SYSFS}/kernel/mm/hugepages/hugepages-${HUGEPGSZ}kB/free_hugepages")"
}

main() {
    case ${1:-config} in
        config) config ;;
        status) status ;;
        reset) reset ;;
        help | -h | --help) usage ;;
        *)
            usage >&2
            die "no command '$1'"
            ;;
    esac
    exit "$FAILED"
}

[ "${BASH_SOURCE[0]}" != "$0" ] || main "$@"
