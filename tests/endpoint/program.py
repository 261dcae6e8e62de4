"""A stand-in for ``globus-compute-endpoint``: the same commands and files, without network access.

It behaves like version 4.19. A file ``storage.db`` beside the endpoints stands for a login.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import click


@click.group()
@click.option("-c", "--config-dir", default=None)
@click.pass_context
def main(context, config_dir):
    """Set the folder of the endpoints."""
    context.obj = Path(config_dir) if config_dir else Path.home() / ".globus_compute"


@main.command()
@click.option("--multi-user", type=bool)
@click.option("--display-name")
@click.option("--template-config", type=click.Path(exists=True))
@click.option("--user-env-config", type=click.Path(exists=True))
@click.argument("name")
@click.pass_obj
def configure(top, multi_user, display_name, template_config, user_env_config, name):
    """Create the files."""
    assert multi_user is False
    if "/" in name:
        raise click.ClickException(f"Invalid endpoint name: {name}")
    (top / name).mkdir(parents=True)
    (top / name / "config.yaml").write_text(f"display_name: {display_name}\n")
    shutil.copy(template_config, top / name / "user_config_template.yaml.j2")
    shutil.copy(user_env_config, top / name / "user_environment.yaml")


@main.command()
@click.option("--detach", is_flag=True)
@click.argument("name")
@click.pass_obj
def start(top, detach, name):
    """Register, and run in the background."""
    assert detach
    if not (top / "storage.db").exists():
        click.echo("Please authenticate with Globus here:\n\nEnter the resulting Authorization Code here: ")
        raise click.Abort
    if not (top / name / "endpoint.json").exists():
        (top / name / "endpoint.json").write_text(json.dumps({"endpoint_id": str(uuid.uuid4())}))
    if not (top / name / "never-starts").exists():
        # It keeps inherited descriptors open, as a program may.
        subprocess.Popen([sys.executable, __file__, "run", str(top / name)], start_new_session=True)


@main.command()
@click.argument("folder", type=Path)
def run(folder):
    """Run, with a pid file, until a signal arrives or the folder is removed."""
    pid_file = folder / "daemon.pid"
    signal.signal(signal.SIGTERM, lambda *_: (pid_file.unlink(), sys.exit()))
    pid_file.write_text(str(os.getpid()))
    while folder.exists():
        time.sleep(0.1)


@main.command()
@click.argument("name")
@click.pass_obj
def stop(top, name):
    """End the process."""
    pid_file = top / name / "daemon.pid"
    if pid_file.exists():
        os.kill(int(pid_file.read_text()), signal.SIGTERM)
        if (top / name / "slow").exists():
            (top / name / "slow").unlink()
            sys.exit(-1)


@main.command()
@click.option("--yes", is_flag=True)
@click.argument("name")
@click.pass_obj
def delete(top, yes, name):
    """Remove the files."""
    assert yes
    shutil.rmtree(top / name)


if __name__ == "__main__":
    main()
