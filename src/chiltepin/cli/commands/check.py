"""``chiltepin check``: check each endpoint and explain how to fix what fails."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

import click

from chiltepin.cli.context import data_options
from chiltepin.cli.exit_codes import FAILURE, LOGIN_REQUIRED
from chiltepin.cli.output import is_terminal, print_json, print_line, print_table
from chiltepin.cli.params import ENDPOINT_PATH
from chiltepin.errors import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chiltepin.cli.context import Context
    from chiltepin.transfers.check import Finding

__all__ = ["check"]

#: Maximum number of endpoints to check at the same time.
MAX_THREADS = 4


@click.command()
@click.argument("chosen", nargs=-1, type=ENDPOINT_PATH, metavar="[EP]...")
@click.option("--write", is_flag=True, help="Also write a small file to each endpoint, then delete it.")
@data_options
def check(*, context: Context, chosen: tuple[str, ...], write: bool) -> None:
    """Check each endpoint and explain how to fix what fails.

    It checks, in this order: the settings, the login, the consent, the connection, a listing of the home folder, and
    with --write whether a small file can be written, listed and deleted.
    """
    findings = _findings(context, [word.rstrip(":") for word in chosen], write=write)
    if context.json:
        print_json([_plain(finding) for finding in findings])
    else:
        _show(context, findings, write=write)
    broken = [finding for finding in findings if finding.failed]
    if broken or (chosen and not all(finding.served for finding in findings)):
        needs_login = any(finding.failed in ("login", "consent") for finding in broken)
        sys.exit(LOGIN_REQUIRED if needs_login else FAILURE)


def _findings(context: Context, chosen: list[str], *, write: bool) -> list[Finding]:
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - help needs no threads

    from chiltepin.transfers.check import EndpointCheck  # noqa: PLC0415

    names = chosen or list(context.settings.endpoints)
    if not names:
        raise click.UsageError(
            f"{context.settings.file} declares no endpoint; add them below 'data: endpoints:', or name one on the "
            "command line."
        )
    with (
        _waiting(names),
        EndpointCheck(context.settings, write=write) as check_endpoints,
        ThreadPoolExecutor(MAX_THREADS) as pool,
    ):
        return list(pool.map(check_endpoints.examine, names))


@contextlib.contextmanager
def _waiting(names: list[str]) -> Iterator[None]:
    if not is_terminal(sys.stderr):
        yield
        return
    from rich.console import Console  # noqa: PLC0415 - a pipe needs no spinner

    with Console(stderr=True).status(f"Checking {len(names)} endpoints"):
        yield


def _plain(finding: Finding) -> dict[str, Any]:
    return {
        "endpoint": finding.endpoint,
        "ok": finding.served and not finding.failed,
        "served": finding.served,
        "passed": list(finding.passed),
        "failed": finding.failed or None,
        "trouble": finding.problem or None,
        "cure": finding.hint or None,
    }


def _show(context: Context, findings: list[Finding], *, write: bool) -> None:
    from chiltepin.transfers.check import STAGES  # noqa: PLC0415

    stages = [stage for stage in STAGES if write or stage != "write"]
    click.echo(f"Backend {context.settings.backend}, settings {printable(context.settings.file)}")
    print_table(
        ("Endpoint", *(stage.capitalize() for stage in stages)),
        [[finding.endpoint, *(_cell(finding, stage) for stage in stages)] for finding in findings],
    )
    for finding in findings:
        if finding.failed:
            print_line(printable(finding.problem), name=printable(finding.endpoint))
            if finding.hint:
                click.echo(f"  {printable(finding.hint)}")
        elif finding.hint:
            print_line(printable(finding.hint), name=printable(finding.endpoint))
        elif not finding.served:
            backend = context.settings.backend
            print_line(
                f"it is not configured for backend {backend!r}; to use it there, add '{backend}:' below it.",
                name=printable(finding.endpoint),
            )


def _cell(finding: Finding, stage: str) -> str:
    if stage in finding.passed:
        return "ok"
    return "failed" if stage == finding.failed else "-"
