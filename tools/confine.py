"""A process that can write into one folder and nowhere else: what a broken kernel may do to the disk.

Landlock, by system call: Linux 5.13 and later, without privileges, inherited by all that the process starts.
What it is not: a sandbox. Reading, memory and the network stay as they are.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from pathlib import Path

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # the same on every architecture
_VERSION, _PATH_BENEATH, _NO_NEW_PRIVS = 1, 1, 38
_WRITE_FILE = 1 << 1
# Writing and truncating files, making and removing entries of every kind, moving them between folders: by version.
_RIGHTS = {1: 0x1FF2, 2: 0x3FF2, 3: 0x7FF2}


def _call(*arguments: object) -> int:
    return int(ctypes.CDLL(None, use_errno=True).syscall(*arguments))


def landlock() -> int:
    """The version of Landlock that this kernel has; 0 without it."""
    return max(0, _call(_CREATE, None, 0, _VERSION)) if sys.platform == "linux" else 0


def confine(folder: Path) -> None:
    """From here on this process, and all that it starts, writes below `folder` and to /dev/null only. Cannot be undone.

    Raises OSError where the kernel has no Landlock or refuses.
    """
    version = landlock()
    if not version:
        raise OSError("this kernel has no Landlock (Linux 5.13): a process cannot be confined to a folder")
    rights = _RIGHTS[min(version, 3)]
    rules = _call(_CREATE, struct.pack("<Q", rights), 8, 0)
    failed = rules < 0
    for path, allowed in ((folder, rights), (Path(os.devnull), _WRITE_FILE)):
        handle = os.open(path, os.O_PATH)
        failed |= _call(_ADD, rules, _PATH_BENEATH, struct.pack("<Qi", allowed, handle), 0) != 0
        os.close(handle)
    failed |= int(ctypes.CDLL(None).prctl(_NO_NEW_PRIVS, 1, 0, 0, 0)) != 0 or _call(_RESTRICT, rules, 0) != 0
    if failed:
        raise OSError(ctypes.get_errno(), f"Landlock refuses to confine a process to {folder}")
    os.close(rules)
