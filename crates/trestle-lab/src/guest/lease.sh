#!/bin/sh
# What udhcpc runs when its lease changes: takes over exactly what the server said, then says so
# in one line. The same for a VM and for a network namespace.
case "$1" in
bound | renew) ;;
*) exit 0 ;;
esac
ip -4 address flush dev "$interface"
ip address add "$ip/$mask" dev "$interface"
if [ -n "$mtu" ]; then ip link set "$interface" mtu "$mtu"; fi
if [ -n "$router" ]; then ip route replace default via "${router%% *}" dev "$interface"; fi
if [ "$GUEST" = vm ]; then
    hostname "$hostname"
    : >/etc/resolv.conf
    if [ -n "$domain" ]; then echo "search $domain" >>/etc/resolv.conf; fi
    for server in $dns; do echo "nameserver $server" >>/etc/resolv.conf; done
fi
echo "GUEST address=$ip/$mask router=$router dns=$dns mtu=$mtu hostname=$hostname domain=$domain server=$serverid lease=$lease"
