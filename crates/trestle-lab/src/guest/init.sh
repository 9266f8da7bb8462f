#!/bin/busybox sh
# PID 1 of a lab's virtual machine: gets an address by DHCP, tries what the kernel command line
# asks for (guest.ping=A,B guest.resolve=A,B), then runs what comes in on the serial console, a
# line each: a number and a command. Everything it says begins with GUEST.
export PATH=/bin GUEST=vm
/bin/busybox mkdir -p /proc /sys /dev /etc /tmp
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
exec </dev/ttyS0 >/dev/ttyS0 2>&1
stty raw -echo
for module in /modules/*.ko; do insmod "$module"; done
option() { tr ' ' '\n' </proc/cmdline | sed -n "s/^guest\.$1=//p" | tr ',' ' '; }
waited_until() {
    tries=$1
    shift
    until "$@" >/dev/null 2>&1; do
        tries=$((tries - 1))
        if [ "$tries" = 0 ]; then return 1; fi
        usleep 100000
    done
}
ip link set lo up
waited_until 50 test -e /sys/class/net/eth0 || echo "GUEST has no eth0"
ip link set eth0 up
echo "GUEST booted $(cut -d ' ' -f 1 /proc/uptime)"
udhcpc -f -q -n -t 20 -T 1 -i eth0 -O mtu -O domain -O hostname -s /lease.sh || echo "GUEST has no lease"
try() {
    if waited_until 5 "$@"; then outcome=ok; else outcome=failed; fi
}
for address in $(ip route | sed -n 's/^default via \([^ ]*\).*/\1/p') $(option ping); do
    try ping -c 1 -W 2 "$address"
    echo "GUEST ping $address $outcome"
done
for name in $(option resolve); do
    try nslookup -type=a "$name"
    echo "GUEST resolve $name $outcome"
done
echo "GUEST ready $(cut -d ' ' -f 1 /proc/uptime)"
while read -r number command; do
    echo "GUEST run $number begin"
    sh -c "$command" </dev/null 2>&1
    echo "GUEST run $number status $?"
done
poweroff -f
