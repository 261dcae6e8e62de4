"""What the commands that use data share: options, settings, backend, and the output format."""

from __future__ import annotations

import functools
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import click

from chiltepin.cli.location import Location, parse_location

if TYPE_CHECKING:
    from collections.abc import Callable

    from chiltepin.settings import DataSettings
    from chiltepin.transfers.runner import Transfers

__all__ = ["Context", "config_option", "data_options", "format_option"]

Command = TypeVar("Command", bound="Callable[..., Any]")

config_option = click.option("--config", metavar="FILE", type=click.Path(dir_okay=False), help="Settings file to use.")
format_option = click.option(
    "-F",
    "--format",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Output format.",
)


class Context:
    """The settings and the backend of one command, each loaded when first needed.

    ``config`` and ``backend`` override the default settings file and the backend of the environment or the settings.
    """

    def __init__(self, *, config: str | None = None, backend: str | None = None, form: str = "text") -> None:
        self._config, self._backend, self.json = config, backend, form == "json"

    @cached_property
    def settings(self) -> DataSettings:
        """The data section of the settings file; a missing or invalid file is a ConfigError."""
        from chiltepin.errors import ConfigError  # noqa: PLC0415
        from chiltepin.settings import FILE_NAME, FILE_VARIABLE, default_file  # noqa: PLC0415
        from chiltepin.transfers.resolve import file_data  # noqa: PLC0415 - help needs no settings

        file = self._config or default_file()
        if file is None:
            raise ConfigError(
                f"No settings file found: write {FILE_NAME} in this folder or in your config folder, or name one with "
                f"--config FILE or 'export {FILE_VARIABLE}=FILE'."
            )
        return file_data(file, self._backend)

    @cached_property
    def transfers(self) -> Transfers:
        """The backend, ready for requests."""
        from chiltepin.transfers.runner import open_transfers  # noqa: PLC0415 - help needs no backend

        return open_transfers(self.settings.setup)

    def locate(self, text: str, *, globs: bool = False) -> Location:
        """Return the endpoint and path of ``EP:PATH``; without a colon, the path is None.

        With ``globs``, the path may be a pattern. An endpoint that is unknown, or that the backend does not serve, is
        an EndpointError.
        """
        from chiltepin.model import endpoint_name  # noqa: PLC0415

        settings = self.settings
        # An endpoint that has a collection is also known by the collection's UUID.
        endpoint, path = parse_location(text, {*settings.endpoints, *settings.active_places})
        if not endpoint.strip():
            raise click.UsageError(f"{text!r} has no endpoint; write EP:PATH, such as my-laptop:/data/input.dat.")
        endpoint = endpoint_name(endpoint)
        self.check_path(endpoint, path, globs=globs)
        return Location(endpoint, path)

    def check_path(self, endpoint: str, path: str | None, *, globs: bool = False) -> None:
        """Log a warning if a path is probably not what the user means; errors are those of `locate`."""
        from chiltepin.transfers.doubtful_paths import warn_of  # noqa: PLC0415
        from chiltepin.transfers.resolve import resolve_endpoint  # noqa: PLC0415

        place = resolve_endpoint(self.settings, endpoint)
        if path:
            warn_of([(endpoint, path, place)], globs=globs)


def data_options(command: Command) -> Command:
    """Add the options that all data commands share; the command gets a ``context`` in their place."""

    @config_option
    @click.option("--backend", metavar="NAME", help="Backend to use instead of the one in the settings.")
    @format_option
    @functools.wraps(command)
    def wrapped(*, config: str | None, backend: str | None, form: str, **given: Any) -> Any:
        return command(context=Context(config=config, backend=backend, form=form), **given)

    return wrapped  # type: ignore[return-value] # click has no type for what it decorates
