"""Files of unknown size, because the kernel generates them when they are read: ``/proc``, ``/sys`` and similar."""

from __future__ import annotations

from functools import cache

from chiltepin.backends.filesystem.local.mounts import kinds_of

__all__ = ["has_unknown_sizes"]

#: Filesystem types whose files report 0 or a page of memory, whatever their content (proc(5), sysfs(5), cgroups(7)).
_KINDS = frozenset(
    {
        *("proc", "sysfs", "cgroup", "cgroup2", "debugfs", "tracefs", "securityfs", "configfs", "efivarfs", "pstore"),
        *("fusectl", "selinuxfs", "smackfs", "apparmorfs", "binfmt_misc", "nfsd", "rpc_pipefs", "resctrl", "bpf"),
    }
)


@cache
def has_unknown_sizes(device: int) -> bool:
    """Whether the files of a device have unknown sizes; read once from the list of mounts."""
    return not _KINDS.isdisjoint(kinds_of(device))
