"""A directory for a private server, removed with it or, after a crash, by the next one."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

_PREFIX = "celery-budget-"
_LOCK = "owner.lock"


class Home:
    """Make a temporary directory that is ours while this process lives.

    A lock file tells later owners whether it is still in use: the kernel drops the lock even
    when this process is killed, and a directory without a living owner is swept.

    Attributes:
        path: The directory.
    """

    def __init__(self) -> None:
        _sweep()
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        # Locked before it gets its name: a sweeper must never see it unlocked.
        nameless = self.path / "new.lock"
        self._lock = os.open(nameless, os.O_CREAT | os.O_RDWR)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        nameless.rename(self.path / _LOCK)

    def remove(self) -> None:
        """Remove the directory and all in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def _sweep() -> None:
    """Remove directories whose owner was killed."""
    for lock in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*/{_LOCK}"):
        try:
            descriptor = os.open(lock, os.O_RDWR)
        except OSError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.parent, ignore_errors=True)
        except BlockingIOError:
            continue
        finally:
            os.close(descriptor)
