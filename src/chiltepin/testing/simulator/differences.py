"""Where the simulator's documents differ from the examples in ``globus_sdk.testing``, and why.

A test compares them key by key, and the documentation shows this table.
"""

from __future__ import annotations

from chiltepin.testing.simulator.documents import NEWER

__all__ = ["DIFFERENCES"]

_SAID = "The Transfer API says that every document has it (docs.globus.org); the example leaves it out."
_NEWER = "Newer than the example; globus-sdk-javascript, which Globus maintains, has it in its EndpointDocument."
_SERVER = "Newer than the example; globus-sdk-javascript has it in its ServerDocument."

_ENDPOINT = (
    *NEWER,
    "canonical_name",
    "gcs_version",
    "high_assurance",
    "host_endpoint_display_name",
    "my_effective_roles",
    "name",
    "owner_id",
    "owner_string",
)
_SERVER_KEYS = (
    "DATA.incoming_data_port_end",
    "DATA.incoming_data_port_start",
    "DATA.is_connected",
    "DATA.is_paused",
    "DATA.outgoing_data_port_end",
    "DATA.outgoing_data_port_start",
)

#: Name of the example, key (a dot separates nested keys), reason.
DIFFERENCES: dict[str, dict[str, str]] = {
    "task_list": {"DATA_TYPE": _SAID},
    "get_submission_id": {"DATA_TYPE": _SAID},
    "get_endpoint": dict.fromkeys(_ENDPOINT, _NEWER) | dict.fromkeys(_SERVER_KEYS, _SERVER),
}
