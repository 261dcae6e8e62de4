"""``chiltepin completion``: print a script to complete commands, options and endpoints in a shell."""

from __future__ import annotations

import click

__all__ = ["completion"]


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a script for shell completion.

    \b
    bash: eval "$(chiltepin completion bash)"         in ~/.bashrc
    zsh:  eval "$(chiltepin completion zsh)"          in ~/.zshrc, after compinit
    fish: chiltepin completion fish | source          in ~/.config/fish/config.fish
    """  # noqa: D301 - the mark that keeps these lines is the character, not its escape
    from click.shell_completion import get_completion_class  # noqa: PLC0415 - for this alone

    from chiltepin.cli.main import chiltepin  # noqa: PLC0415 - main loads this module

    script = get_completion_class(shell)
    if script is not None:
        click.echo(script(chiltepin, {}, "chiltepin", "_CHILTEPIN_COMPLETE").source())
