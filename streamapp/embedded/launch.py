"""Become another program: with another user's rights, and with the wish to end when the parent does.

Run by path with `python -I -S`, so it imports nothing but the standard library and starts in some 15 ms:

    launch.py [--user=UID:GID] [--parent=PID] -- PROGRAM ARGUMENT...

PostgreSQL refuses to run as root. A root whose home is closed to others (as it should be) could not start it under
another user either, since that user cannot reach the program and its files; so the new user keeps one right of root,
to search and read whatever the path. The alternative, opening every directory up to `/`, would stay behind.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG, _PR_SET_KEEPCAPS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 1, 8, 47, 2
_CAPABILITY_VERSION_3 = 0x20080522
_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 1, 2


def _prctl(option: int, *arguments: int) -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    padded = [ctypes.c_ulong(value) for value in (*arguments, *(0,) * (4 - len(arguments)))]
    return bool(libc.prctl(option, *padded) == 0)


def _keep(capability: int) -> bool:
    """Hold on to one capability over `exec`. False where root itself does not have it, as in some containers."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    mask = 1 << capability
    sets = (ctypes.c_uint32 * 6)(mask, mask, mask, 0, 0, 0)  # effective, permitted, inheritable; low and high words
    libc = ctypes.CDLL(None, use_errno=True)
    return libc.capset(header, sets) == 0 and _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability)


def become(uid: int, gid: int) -> None:
    """Drop root for this user; on Linux keep the right to reach files, and no other."""
    linux = sys.platform == "linux"
    if linux:
        _prctl(_PR_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    if linux and not _keep(_CAP_DAC_READ_SEARCH):
        _keep(_CAP_DAC_OVERRIDE)


def main(arguments: list[str]) -> None:
    split = arguments.index("--")
    options = dict(option.removeprefix("--").split("=", 1) for option in arguments[:split])
    command = arguments[split + 1 :]
    if "user" in options:
        uid, gid = options["user"].split(":")
        become(int(uid), int(gid))
    if "parent" in options:
        # After the change of user, which clears it.
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != int(options["parent"]):  # it ended before we could ask
            sys.exit(1)
    os.execv(command[0], command)  # noqa: S606


if __name__ == "__main__":
    main(sys.argv[1:])
