"""Turn a resource of the settings into a Parsl executor.

Creating an executor contacts no server and starts no process; Parsl does so when it starts the executor.
"""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from parsl.executors import ThreadPoolExecutor
from parsl.launchers import MpiExecLauncher, SimpleLauncher, SingleNodeLauncher, SrunLauncher
from parsl.providers import LocalProvider, PBSProProvider

from chiltepin.errors import ConfigError
from chiltepin.parsl.globus_compute import ComputeExecutor
from chiltepin.parsl.htex import HEARTBEAT, PARSLS_WORKERS, GuardedHTEX, GuardedMPIExecutor
from chiltepin.parsl.slurm import GuardedSlurmProvider, fail_unstarted

if TYPE_CHECKING:
    from parsl.executors import HighThroughputExecutor
    from parsl.executors.base import ParslExecutor
    from parsl.providers.base import ExecutionProvider

    from chiltepin.settings import Resource

__all__ = ["create_executor", "create_provider"]

#: The secrets of Globus clients: only the workflow's process moves data by Globus.
KEPT_BACK = ("CHILTEPIN_CLIENT_SECRET", "GLOBUS_COMPUTE_CLIENT_SECRET")

LOOPBACK = "127.0.0.1"


def create_executor(label: str, resource: Resource, *, client: Any = None) -> ParslExecutor:
    """Make the executor of a resource.

    ``client`` is for a Globus Compute endpoint; None creates one with the first app. Raise a ConfigError if the extra
    ``compute`` is missing.
    """
    if resource.endpoint:
        return _compute_executor(label, resource, client)
    if resource.provider == "threads":
        return ThreadPoolExecutor(label=label, max_threads=resource.max_threads)
    common = {
        "label": label,
        "provider": create_provider(resource),
        "address": LOOPBACK,
        "heartbeat_period": HEARTBEAT,
        # Unpickling a message runs code, so other users of the cluster's network must not be able to send one.
        "encrypted": True,
    }
    if resource.mpi:
        executor = GuardedMPIExecutor(
            max_workers_per_block=resource.max_mpi_apps, mpi_launcher=resource.launcher, **common
        )
    else:
        executor = GuardedHTEX(
            cores_per_worker=resource.cores_per_worker, max_workers_per_node=resource.max_workers_per_node, **common
        )
    if resource.provider != "localhost":
        executor.block_error_handler = fail_unstarted
        _listen_to_nodes(executor)
    return executor


def _listen_to_nodes(executor: HighThroughputExecutor) -> None:
    """Let workers on other machines connect through any interface that they can reach."""
    # By default, Parsl asks a server on the internet for the address of this machine when the executor is made.
    executor.address = None
    executor.all_addresses = _own_addresses()


def _own_addresses() -> set[str]:
    found = (address for addresses in psutil.net_if_addrs().values() for address in addresses)
    return {address.address for address in found if address.family == socket.AF_INET}


def create_provider(resource: Resource) -> ExecutionProvider:
    """Make the Parsl provider that a resource names."""
    blocks = {
        "init_blocks": resource.init_blocks,
        "min_blocks": resource.min_blocks,
        "max_blocks": resource.max_blocks,
        "worker_init": _worker_init(resource),
    }
    if resource.provider == "localhost":
        return LocalProvider(launcher=SimpleLauncher() if resource.mpi else SingleNodeLauncher(), **blocks)
    blocks |= {
        "nodes_per_block": resource.nodes_per_block,
        "account": resource.account,
        "walltime": resource.walltime,
    }
    if resource.provider == "pbspro":
        launcher = SimpleLauncher() if resource.mpi else MpiExecLauncher()
        return PBSProProvider(
            queue=resource.queue, cpus_per_node=resource.cores_per_node or 1, launcher=launcher, **blocks
        )
    return GuardedSlurmProvider(
        qos=resource.queue,
        partition=resource.partition,
        # Slurm would pass the number to the srun of each MPI program, as cores per rank.
        cores_per_node=None if resource.mpi else resource.cores_per_node,
        exclusive=resource.exclusive,
        launcher=SimpleLauncher() if resource.mpi else SrunLauncher(),
        **blocks,
    )


def _worker_init(resource: Resource) -> str:
    """Return the shell lines that are run before a worker starts.

    First, unset the secrets that no worker needs; the user's lines may set one again. Then put the scripts of this
    environment on PATH, before the user's lines, which may activate another environment. Last, append the folder of
    the main script to PYTHONPATH, so that the worker finds the modules beside it.
    """
    scripts = shlex.quote(str(Path(_script(PARSLS_WORKERS)).parent))
    lines = [f"unset {' '.join(KEPT_BACK)}", f'export PATH={scripts}"${{PATH:+:$PATH}}"', *resource.environment]
    if folder := _main_folder():
        # An empty part of PYTHONPATH would be the working directory, hence the condition in the braces.
        lines.append(f'export PYTHONPATH="${{PYTHONPATH:+$PYTHONPATH:}}"{shlex.quote(folder)}')
    return "\n".join(lines)


def _main_folder() -> str:
    """Return the folder that Python searches first for modules; empty if it is not a folder."""
    first = sys.path[0] if sys.path else ""
    folder = os.path.abspath(first)
    return folder if os.path.isdir(folder) else ""


def _script(name: str) -> str:
    """Return the absolute path of a Parsl script in this environment, else its name alone."""
    folders = (sysconfig.get_path("scripts"), os.path.dirname(sys.executable), os.environ.get("PATH", ""))
    found = shutil.which(name, path=os.pathsep.join(folder for folder in folders if folder))
    return os.path.abspath(found) if found else name


def _compute_executor(label: str, resource: Resource, client: Any) -> ComputeExecutor:
    if find_spec("globus_compute_sdk") is None:
        raise ConfigError(
            f"Resource {label!r} is a Globus Compute endpoint, for which a package is missing; "
            "run: pip install globus-compute-sdk",
            key=f"{label}.endpoint",
        )
    return ComputeExecutor(
        label=label, endpoint=str(resource.endpoint), user_endpoint_config=_endpoint_config(resource), client=client
    )


def _endpoint_config(resource: Resource) -> dict[str, Any]:
    """Return the values for the template of a Globus Compute endpoint; a missing text is empty, never None."""
    return {
        "mpi": resource.mpi,
        "max_mpi_apps": resource.max_mpi_apps,
        "mpi_launcher": resource.launcher,
        "provider": resource.provider,
        "cores_per_node": resource.cores_per_node or 1,
        "nodes_per_block": resource.nodes_per_block,
        "init_blocks": resource.init_blocks,
        "min_blocks": resource.min_blocks,
        "max_blocks": resource.max_blocks,
        "exclusive": resource.exclusive,
        "partition": resource.partition or "",
        "queue": resource.queue or "",
        "account": resource.account or "",
        "walltime": resource.walltime,
        "worker_init": "\n".join(resource.environment),
    }
