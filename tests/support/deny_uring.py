"""Runs a command that the kernel denies io_uring to, as many container runtimes do.

usage: deny_uring.py [--only=CALL] COMMAND [ARGUMENT...]

A seccomp filter answers io_uring_setup, io_uring_enter and io_uring_register with EPERM, or only
the one that is named: setup, enter or register. The command takes this process's place, so its id
and its signals are the command's own.
"""

import ctypes
import errno
import os
import struct
import sys

# include/uapi/linux/prctl.h
PR_SET_NO_NEW_PRIVS = 38
PR_SET_SECCOMP = 22
# include/uapi/linux/seccomp.h
SECCOMP_MODE_FILTER = 2
SECCOMP_RET_ALLOW = 0x7FFF0000
SECCOMP_RET_ERRNO = 0x00050000
# These numbers are the same on every architecture.
CALLS = {"setup": 425, "enter": 426, "register": 427}
ONLY = "--only="

# Classic BPF, include/uapi/linux/bpf_common.h.
LOAD_WORD_ABSOLUTE = 0x20
JUMP_IF_GREATER_OR_EQUAL = 0x35
JUMP_IF_GREATER = 0x25
RETURN = 0x06
# struct seccomp_data begins with the system call's number.
NUMBER_OFFSET = 0


def instruction(code, operand, if_true=0, if_false=0):
    """One struct sock_filter."""
    return struct.pack("=HBBI", code, if_true, if_false, operand)


def program(first, last):
    """A filter that denies the system calls whose numbers are in this range."""
    return b"".join(
        [
            instruction(LOAD_WORD_ABSOLUTE, NUMBER_OFFSET),
            instruction(JUMP_IF_GREATER_OR_EQUAL, first, if_false=2),
            instruction(JUMP_IF_GREATER, last, if_true=1),
            instruction(RETURN, SECCOMP_RET_ERRNO | errno.EPERM),
            instruction(RETURN, SECCOMP_RET_ALLOW),
        ]
    )


class Filter(ctypes.Structure):
    """struct sock_fprog: the number of instructions and their address."""

    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]


def prctl(option, *arguments):
    libc = ctypes.CDLL(None, use_errno=True)
    words = [ctypes.c_ulong(0) for _ in range(4)]
    for place, argument in enumerate(arguments):
        words[place] = argument
    if libc.prctl(ctypes.c_int(option), *words) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl {option}: {os.strerror(number)}")


def main():
    command = sys.argv[1:]
    denied = list(CALLS.values())
    if command and command[0].startswith(ONLY):
        call = command.pop(0).removeprefix(ONLY)
        denied = [CALLS[call]] if call in CALLS else sys.exit(__doc__)
    if not command:
        sys.exit(__doc__)
    text = program(min(denied), max(denied))
    filter = Filter(len(text) // 8, text)
    # An unprivileged process may set a filter only if it gives up gaining privileges.
    prctl(PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1))
    prctl(PR_SET_SECCOMP, ctypes.c_ulong(SECCOMP_MODE_FILTER), ctypes.byref(filter))
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
