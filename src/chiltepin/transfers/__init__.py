"""Running requests on a backend; no Parsl and no SDK of a service.

`Transfers` and `open_transfers` are loaded when they are first used, so that reading the activity log loads no backend.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chiltepin.transfers.runner import Transfers, open_transfers

__all__ = ["Transfers", "open_transfers"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from chiltepin.transfers import runner  # noqa: PLC0415

        return getattr(runner, name)
    raise AttributeError(f"module 'chiltepin.transfers' has no attribute {name!r}")
