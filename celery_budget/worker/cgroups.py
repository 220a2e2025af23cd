"""The control groups that a process is in, of version 2 and of version 1."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

#: Where they are, and which ones this process is in.
ROOT = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")


def folders(
    root: Path, own: Path, controller: str, newer: str, older: str
) -> Iterator[tuple[Path, bool]]:
    """List the groups that may have a limit of a kind, the nearest first.

    Args:
        root: Where control groups are.
        own: Which ones this process is in, as `/proc/self/cgroup` tells it.
        controller: Of the limit, as version 1 names it, e.g. `"memory"`.
        newer: Name of the file with the limit, in version 2.
        older: The same in version 1.

    Yields:
        A folder with such a file, and whether it is of version 2.
    """
    try:
        lines = own.read_text("utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, name = line.split(":", 2)
        is_newer = not controllers
        if is_newer:
            mounts = [root, root / "unified"]
        elif controller in controllers.split(","):
            # Where controllers are mounted together, each has a link of its name.
            mounts = [root / controller]
        else:
            continue
        for mount in mounts:
            # A container may see its own group as the root, and its name as the host sees it.
            folder = mount / name.strip("/")
            for each in (folder, *folder.parents):
                if (each / (newer if is_newer else older)).exists():
                    yield each, is_newer
                if each == mount:
                    break
