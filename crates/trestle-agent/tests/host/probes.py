"""Sends packets from network namespaces and says which arrive where, `number namespace` a line.

Arguments: the name and the path of each namespace. Standard input: a packet a line, `number namespace
source destination protocol port type`. A packet is known again by its number: it is its source port, its
identifier of ICMP, or its first bytes.
"""

import ctypes
import os
import select
import socket
import struct
import sys

ICMP, TCP, UDP, ICMPV6, OTHER = 1, 6, 17, 58, 253
OF_FAMILY = {socket.AF_INET: [ICMP, TCP, UDP, OTHER], socket.AF_INET6: [ICMPV6, TCP, UDP, OTHER]}
# How long it is quiet when all have come.
QUIET = 0.4


def enter(namespace):
    # os.setns is there from Python 3.12 on.
    if ctypes.CDLL(None, use_errno=True).setns(namespace, 0) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def checksum(data):
    words = struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2))
    total = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def pseudo_header(family, source, destination, protocol, length):
    ends = socket.inet_pton(family, source) + socket.inet_pton(family, destination)
    return ends + (struct.pack("!BBH", 0, protocol, length) if family == socket.AF_INET else struct.pack("!II", length, protocol))


def message(family, number, source, destination, protocol, port, kind):
    payload = b"trestle explain?"
    if protocol == OTHER:
        return struct.pack("!H", number) + payload
    if protocol in (ICMP, ICMPV6):
        text = struct.pack("!BBHHH", kind, 0, 0, number, 0) + payload
        place, before = 2, b"" if protocol == ICMP else pseudo_header(family, source, destination, protocol, len(text))
    elif protocol == UDP:
        text = struct.pack("!HHHH", number, port, 8 + len(payload), 0) + payload
        place, before = 6, pseudo_header(family, source, destination, protocol, len(text))
    else:
        text = struct.pack("!HHIIBBHHH", number, port, number, 0, 5 << 4, 2, 1024, 0, 0)
        place, before = 16, pseudo_header(family, source, destination, protocol, len(text))
    return text[:place] + struct.pack("!H", checksum(before + text)) + text[place + 2:]


def number_of(protocol, data, kinds):
    if protocol not in (ICMP, ICMPV6):
        return struct.unpack("!H", data[:2])[0]
    number = struct.unpack("!H", data[4:6])[0]
    # An answer has the number of what it answers.
    return number if kinds.get(number) == data[0] else None


def main():
    own = os.open("/proc/self/ns/net", os.O_RDONLY)
    listening = {}
    paths = zip(sys.argv[1::2], sys.argv[2::2])
    places = {name: os.open(path, os.O_RDONLY) for name, path in paths}
    for name, place in places.items():
        enter(place)
        for family, protocols in OF_FAMILY.items():
            for protocol in protocols:
                ear = socket.socket(family, socket.SOCK_RAW, protocol)
                ear.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
                listening[ear] = (name, family, protocol)
        enter(own)
    kinds = {}
    for line in sys.stdin:
        number, name, source, destination, protocol, port, kind = line.split()
        number, protocol = int(number), int(protocol)
        kinds[number] = int(kind)
        family = socket.AF_INET6 if ":" in source else socket.AF_INET
        enter(places[name])
        with socket.socket(family, socket.SOCK_RAW, protocol) as mouth:
            mouth.bind((source, 0))
            mouth.sendto(message(family, number, source, destination, protocol, int(port), int(kind)), (destination, 0))
        enter(own)
    while ready := select.select(list(listening), [], [], QUIET)[0]:
        for ear in ready:
            name, family, protocol = listening[ear]
            data = ear.recv(2048)
            data = data[(data[0] & 15) * 4:] if family == socket.AF_INET else data
            number = number_of(protocol, data, kinds)
            if number in kinds:
                print(number, name)


main()
