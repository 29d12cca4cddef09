#!/bin/busybox sh
# The guest's process 1: from the kernel to the command. Everything it is told stands in the share's file `settings`.
# Whatever fails here is said on the console; without the file `status` the host takes the run as died.
B=/bin/busybox
$B mkdir -p /proc /sys /dev /lower /layer /new
$B mount -t proc proc /proc
$B mount -t sysfs sys /sys
$B mount -t devtmpfs dev /dev
while read -r module; do $B insmod "/modules/$module"; done < /modules/order

OPTIONS=trans=virtio,version=9p2000.L,msize=262144
$B mount -t 9p -o $OPTIONS,ro,cache=loose root /lower
$B mount -t tmpfs layer /layer
$B mkdir /layer/upper /layer/work
$B mount -t overlay -o lowerdir=/lower,upperdir=/layer/upper,workdir=/layer/work overlay /new
for dir in proc sys dev; do
    $B mkdir -p /new/$dir
    $B mount --move /$dir /new/$dir
done
$B mkdir -p /new/dev/pts /new/dev/shm /new/run
$B mount -t devpts devpts /new/dev/pts
$B mount -t tmpfs shm /new/dev/shm
$B mount -t tmpfs run /new/run
$B mkdir -p /new/run/share /new/run/bed
$B mount -t 9p -o $OPTIONS,cache=none share /new/run/share
. /new/run/share/settings

# The host may have no kmod, or one that wants other index files: modules are loaded by busybox. The kernel asks for
# modules in the root it started with, which is this one.
$B cp $B /new/run/bed/busybox
for tool in modprobe insmod rmmod lsmod; do $B ln -s busybox /new/run/bed/$tool; done
printf '#!/bin/busybox sh\nexec /bin/busybox chroot /new /run/bed/modprobe "$@"\n' > /bin/modprobe
$B chmod 755 /bin/modprobe
echo /bin/modprobe > /new/proc/sys/kernel/modprobe
# PATH and the rest are the command's; kept off this script's own.
run() { $B env -i PATH="$GUEST_PATH" HOME=/root LC_ALL=C.UTF-8 $B chroot /new "$@"; }
$B mkdir -p /new/lib/modules
run /run/bed/busybox mount --bind "$MODULES" /lib/modules

$B ip link set lo up
for module in $LOAD; do run /run/bed/modprobe "$module" || echo "rmr-guest: no module $module"; done
if [ -n "$NETWORK" ]; then
    for card in /new/sys/class/net/e*; do card=${card##*/}; done
    $B ip addr add 10.0.2.15/24 dev "$card"
    $B ip link set "$card" up
    $B ip route add default via 10.0.2.2
fi

cat_script() {
    $B cat << 'TEXT'
cd
/bin/sh /run/share/command < /dev/null > /run/share/stdout 2> /run/share/stderr
echo $? > /run/share/status.new
/run/bed/busybox mv /run/share/status.new /run/share/status
/run/bed/busybox poweroff -f
TEXT
}
cat_script > /new/run/bed/command

if [ -n "$SYSTEMD" ]; then
    # The host's systemd becomes process 1, with one unit of ours: the command.
    $B mount -t cgroup2 cgroup2 /new/sys/fs/cgroup
    $B mkdir -p /new/run/systemd/system
    printf '[Unit]\nDefaultDependencies=no\nRequires=rmr-guest.service\n' > /new/run/systemd/system/rmr-guest.target
    printf '[Unit]\nDefaultDependencies=no\n[Service]\nEnvironment="PATH=%s" HOME=/root LC_ALL=C.UTF-8\nExecStart=/bin/sh /run/bed/command\n' \
        "$GUEST_PATH" > /new/run/systemd/system/rmr-guest.service
    exec $B chroot /new /lib/systemd/systemd --unit=rmr-guest.target
fi
run /bin/sh /run/bed/command
