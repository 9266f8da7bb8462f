#!/bin/sh
# The first process of the machine that a lab runs in: makes it a plain Linux machine and opens
# the door, `trestle lab door`, through which everything else is started.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/busybox HOME=/root
/bin/busybox mkdir -p /proc /sys /dev /run /tmp /root /var/tmp /opt/busybox
/bin/busybox --install -s /opt/busybox
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
exec </dev/ttyS0 >/dev/ttyS0 2>&1
chmod 1777 /tmp /var/tmp
hostname machine
# Further modules are loaded by the kernel when they are asked for.
modprobe -a virtio_pci virtio_net 8021q bridge br_netfilter veth tun nf_tables || poweroff -f
ip link set lo up
until ip link set eth0 up 2>/dev/null; do usleep 20000; done
ip address add "$DOOR" dev eth0
cd /root || poweroff -f
"$TRESTLE" lab door "${DOOR%/*}" </dev/null
poweroff -f
