"""Names of numbers, from other sources than the core's: Python's errno and signal modules.

Protocols and system calls are samples of their registries, enough to tell tables apart.
"""

from __future__ import annotations

import errno
import platform
import signal

ERRNOS = {number: name for number, name in errno.errorcode.items() if number < 134}
ERRNOS |= {11: "EAGAIN", 35: "EDEADLK", 95: "ENOTSUP", 117: "EFSCORRUPTED", 133: "EHWPOISON"}
for _unknown in (41, 58):
    ERRNOS.pop(_unknown, None)

SIGNALS = {number: signal.Signals(number).name for number in range(1, 32)}
SIGNALS |= {6: "SIGABRT", 16: "SIGSTKFLT", 17: "SIGCHLD", 29: "SIGIO", 31: "SIGSYS"}

PROTOCOLS = {
    0: "HOPOPT",
    1: "ICMP",
    2: "IGMP",
    4: "IPv4",
    6: "TCP",
    17: "UDP",
    33: "DCCP",
    41: "IPv6",
    43: "IPv6-Route",
    44: "IPv6-Frag",
    47: "GRE",
    50: "ESP",
    51: "AH",
    58: "IPv6-ICMP",
    59: "IPv6-NoNxt",
    60: "IPv6-Opts",
    89: "OSPFIGP",
    94: "IPIP",
    103: "PIM",
    112: "VRRP",
    115: "L2TP",
    132: "SCTP",
    133: "FC",
    136: "UDPLite",
    137: "MPLS-in-IP",
    143: "Ethernet",
    145: "NSH",
    255: "reserved",
}

_X86 = {0: "read", 1: "write", 59: "execve", 257: "openat", 321: "bpf", 424: "pidfd_send_signal"}
_ARM = {56: "openat", 63: "read", 64: "write", 221: "execve", 280: "bpf", 424: "pidfd_send_signal"}
SYSCALLS = {"x86_64": _X86, "aarch64": _ARM}[platform.machine()]
