"""``chiltepin transfer``: move files and folders from one endpoint to another."""

from __future__ import annotations

import posixpath
from dataclasses import replace
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from chiltepin.cli.batch_file import BATCH_FILE, BatchLine, read_batch
from chiltepin.cli.context import data_options
from chiltepin.cli.filter_options import FilterCommand, filter_options
from chiltepin.cli.options import (
    label_option,
    parse_request,
    show_requests,
    timeout_option,
    transfer_options,
    workers_option,
)
from chiltepin.cli.output import print_json
from chiltepin.cli.params import ENDPOINT_PATH
from chiltepin.model import SYNC_LEVELS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chiltepin.cli.context import Context
    from chiltepin.cli.location import Location
    from chiltepin.model import TransferRequest

__all__ = ["transfer"]


@click.command(cls=FilterCommand)
@click.argument("source", type=ENDPOINT_PATH, metavar="SRC_EP:PATH")
@click.argument("destination", type=ENDPOINT_PATH, metavar="DST_EP:PATH")
@click.option("-r", "--recursive", is_flag=True, help="Transfer the contents of a folder.")
@click.option(
    "-s",
    "--sync-level",
    type=click.Choice(SYNC_LEVELS),
    help="Skip a file that exists at the destination (exists), with the same size (size), not older (mtime), or "
    "with the same content (checksum).",
)
@filter_options
@click.option(
    "--batch",
    type=BATCH_FILE,
    metavar="FILE",
    help="Transfer the pairs of paths in this file, one per line; - reads standard input.",
)
@click.option(
    "--checksum", default="", metavar="ALGORITHM:DIGITS", help="Fail if the file does not have this checksum."
)
@click.option(
    "--delete-destination-extra",
    is_flag=True,
    help="Then delete files in the destination folder that are not in the source folder.",
)
@click.option("--preserve-timestamp", is_flag=True, help="Keep the modification times of files.")
@click.option("--verify/--no-verify", default=True, help="Verify files by checksum after the transfer.  [default: on]")
@click.option(
    "--dry-run",
    is_flag=True,
    help="Show the request and the files it would transfer or delete, without submitting it.",
)
@click.option("--detach", is_flag=True, help="Print the task ID without waiting; service backends only.")
@transfer_options
@label_option
@timeout_option
@workers_option
@data_options
def transfer(
    *,
    context: Context,
    source: str,
    destination: str,
    batch: BinaryIO | None,
    dry_run: bool,
    detach: bool,
    timeout: float,
    workers: int | None,
    **options: Any,
) -> None:
    """Transfer a file or the contents of a folder.

    The destination of a file is its full new path. A path is relative to the root of its endpoint if it begins with /,
    else to the home folder.

    With --batch, each line of FILE is a source and a destination path, quoted as for a shell, with --recursive for a
    folder and --checksum if it is known; a # begins a comment. They are relative to the PATHs given here, if any.

    The first of --include and --exclude that matches the name of a file decides, in the order on the command line.
    The same holds for --include-dirs and --exclude-dirs and the names of folders.
    """
    from chiltepin.cli.run import run_requests  # noqa: PLC0415 - help needs no threads

    requests = _requests(context, context.locate(source), context.locate(destination), batch, options)
    if dry_run:
        show_requests(context, requests)
    elif detach:
        _detach(context, requests, timeout)
    else:
        run_requests(context, requests, timeout=timeout, workers=workers)


def _requests(
    context: Context, source: Location, destination: Location, batch: BinaryIO | None, options: dict[str, Any]
) -> list[TransferRequest]:
    """Return the requests: files and folders separately, each with at most as many items as the backend accepts."""
    pairs = read_batch(batch) if batch else [_single_line(source, destination, options)]
    if batch and (options["recursive"] or options["checksum"]):
        raise click.UsageError("With --batch, write --recursive and --checksum after the paths on each line.")
    if batch and options["delete_destination_extra"]:
        raise click.UsageError("--delete-destination-extra needs a single folder; omit --batch.")
    if options["filters"] and not any(pair.recursive for pair in pairs):
        raise click.UsageError("--include and --exclude apply to a folder; add --recursive, or omit them.")
    if options["submission_id"] and len({pair.recursive for pair in pairs}) > 1:
        raise click.UsageError("--submission-id needs a single task; transfer files and folders in separate commands.")
    found: list[TransferRequest] = []
    most = context.transfers.backend.capabilities.max_items
    for folders in (False, True):
        chosen = [pair for pair in pairs if pair.recursive is folders]
        made = [_request_of_line(source, destination, pair, options) for pair in chosen]
        items = [request.items[0] for request in made]
        for item in items if batch else ():
            context.check_path(source.endpoint, item.source)
            context.check_path(destination.endpoint, item.destination)
        step = most or len(items)
        found += [replace(made[0], items=tuple(items[at : at + step])) for at in range(0, len(items), step or 1)]
    return found


def _single_line(source: Location, destination: Location, options: dict[str, Any]) -> BatchLine:
    for place in (source, destination):
        if not place.path:
            raise click.UsageError(f"{place.endpoint!r} has no path; write EP:PATH, such as {place.endpoint}:/data.")
    return BatchLine(source="", destination="", recursive=options["recursive"], checksum=options["checksum"])


def _request_of_line(
    source: Location, destination: Location, pair: BatchLine, options: dict[str, Any]
) -> TransferRequest:
    """Return the request of one pair; an error names its line in the batch."""
    try:
        return _request(source, destination, pair, options)
    except click.UsageError as error:
        if not pair.number:
            raise
        reason = f"Line {pair.number} of the batch: {error.message}"
    raise click.UsageError(reason)


def _request(source: Location, destination: Location, pair: BatchLine, options: dict[str, Any]) -> TransferRequest:
    from chiltepin.transfers.arguments import TransferOptions, transfer_request  # noqa: PLC0415 - help needs no model

    origin, goal = _join_paths(source.path, pair.source), _join_paths(destination.path, pair.destination)
    if not pair.recursive and goal.endswith(("/", "/.", "/..")):
        whole = posixpath.join(posixpath.normpath(goal), posixpath.basename(posixpath.normpath(origin)))
        raise click.UsageError(
            f"{goal!r} is a folder, but a file needs its full new path; write {destination.endpoint}:{whole}, or add "
            "--recursive to transfer a folder."
        )
    return parse_request(
        transfer_request,
        src_ep=source.endpoint,
        dst_ep=destination.endpoint,
        src_path=origin,
        dst_path=goal,
        recursive=pair.recursive,
        sync_level=options["sync_level"],
        verify_checksum=options["verify"],
        preserve_timestamp=options["preserve_timestamp"],
        filters=options["filters"] if pair.recursive else (),
        checksum=pair.checksum,
        delete_destination_extra=options["delete_destination_extra"],
        label=options["label"],
        **{name: options[name] for name in TransferOptions.__annotations__},
    )


def _join_paths(base: str | None, path: str) -> str:
    return posixpath.join(base, path) if base and path else base or path


def _detach(context: Context, requests: Sequence[TransferRequest], timeout: float) -> None:
    if not context.transfers.backend.capabilities.durable:
        raise click.UsageError(
            f"On backend {context.settings.backend!r} this command transfers the data itself and must run until the "
            "end; omit --detach."
        )
    handles = [context.transfers.submit_detached(request, timeout=timeout) for request in requests]
    if context.json:
        print_json(
            [{"backend": one.backend, "task_id": one.task_id, "submission_id": one.submission_id} for one in handles]
        )
    else:
        for handle in handles:
            click.echo(handle.task_id)
