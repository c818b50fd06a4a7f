"""Stops one thread of a process: `freeze.py PID THREAD`, where THREAD is the thread's name.

Prints `frozen` once the thread has stopped, and lets it continue when stdin ends. If this program
dies, the kernel lets the thread continue. Prints `denied` if the system does not allow tracing.
"""

import ctypes
import errno
import os
import pathlib
import sys

# From <sys/ptrace.h> and <sys/wait.h>.
PTRACE_DETACH = 17
PTRACE_SEIZE = 0x4206
PTRACE_INTERRUPT = 0x4207
WALL = 0x40000000

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
LIBC.ptrace.restype = ctypes.c_long


def trace(request, thread):
    if LIBC.ptrace(request, thread, None, None) == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def find(process, name):
    for task in pathlib.Path(f"/proc/{process}/task").iterdir():
        if (task / "comm").read_text().strip() == name:
            return int(task.name)
    raise SystemExit(f"process {process} has no thread {name}")


def main():
    thread = find(int(sys.argv[1]), sys.argv[2])
    try:
        trace(PTRACE_SEIZE, thread)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOSYS):
            raise
        print("denied", flush=True)
        return
    trace(PTRACE_INTERRUPT, thread)
    os.waitpid(thread, WALL)
    print("frozen", flush=True)
    sys.stdin.read()
    trace(PTRACE_DETACH, thread)


main()
