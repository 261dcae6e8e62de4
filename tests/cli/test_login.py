"""``chiltepin login``, ``logout`` and ``whoami``, against a simulated Globus."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from browser_login import LINK, code_behind, run_login
from warm import warm_command

from chiltepin.testing.simulator import Simulator

COMMAND = str(Path(sys.executable).with_name("chiltepin"))


class Terminal:
    """A user's machine without a display, with access to a simulated Globus."""

    def __init__(self, simulator, folder):
        self.simulator, self.folder = simulator, folder
        self.environment = {**os.environ, **simulator.environment(), "HOME": str(folder), "XDG_STATE_HOME": str(folder)}
        for name in ("CHILTEPIN_CLIENT_ID", "CHILTEPIN_CLIENT_SECRET", "CHILTEPIN_TOKENS", "CHILTEPIN_CONFIG"):
            self.environment.pop(name, None)
        for name in ("DISPLAY", "WAYLAND_DISPLAY", "SSH_TTY", "SSH_CONNECTION", "BROWSER", "XDG_CONFIG_HOME"):
            self.environment.pop(name, None)

    def run(self, *words, **environment):
        """Run the command with an empty standard input."""
        return subprocess.run(
            [warm_command("chiltepin"), *words],
            env=self.environment | environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def log_in(self, *words, code=None):
        """Run ``chiltepin login`` through pipes, open each link that it prints, and enter the code."""
        login = [warm_command("chiltepin"), "login", *words]
        return run_login(login, code=code, stderr=subprocess.PIPE, env=self.environment, cwd=self.folder)


@pytest.fixture
def terminal(tmp_path):
    """A user's terminal, and a Globus with two collections that require consent and one that does not."""
    with Simulator({"laptop": tmp_path / "laptop"}, request_rate=None) as simulator:
        for name in ("scratch", "archive"):
            simulator.add_collection(name, tmp_path / name, entity_type="GCSv5_mapped_collection", needs_consent=True)
        yield Terminal(simulator, tmp_path)


def test_a_login_without_a_browser_lasts_until_the_logout(terminal):
    """A login by link and code is kept for later commands, even after its token has expired, until the logout."""
    assert "Logged in as scientist@example.org." in terminal.log_in().stdout
    terminal.simulator.authority.expire_all()
    shown = terminal.run("whoami")
    assert (shown.returncode, shown.stdout.split()[0]) == (0, "scientist@example.org")
    again = terminal.run("login")
    assert (again.returncode, again.stdout) == (0, "Already logged in as scientist@example.org.\n")
    ended = terminal.run("logout")
    assert (ended.returncode, ended.stdout) == (0, "Logged out.\n")
    assert terminal.run("logout").stdout == "You were not logged in.\n"
    assert terminal.run("whoami").returncode == 4


def test_the_link_is_for_a_person_and_no_json(terminal):
    """With -F json the link and the prompt for the code are written to stderr, and stdout has only the document."""
    ended = terminal.run("login", "-F", "json")
    assert (ended.returncode, ended.stdout) == (4, "")
    assert LINK.search(ended.stderr)


def test_whoami_tells_programs_in_json(terminal):
    """-F json prints the username, identity and client, and no secret."""
    terminal.log_in()
    document = json.loads(terminal.run("whoami", "-F", "json").stdout)
    user = terminal.simulator.authority.user
    assert document == {
        "username": user.username,
        "identity_id": user.identity_id,
        "client_id": "61338d24-54d5-408f-a10d-66c06b59f6d2",
    }


def test_a_login_in_a_terminal(terminal):
    """On a pseudo-terminal the command prompts for the code and accepts it."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [COMMAND, "login"], env=terminal.environment, cwd=terminal.folder, stdin=slave, stdout=slave, stderr=slave
    )
    os.close(slave)
    said = ""
    while "Code here: " not in said:
        said += os.read(master, 4096).decode()
    os.write(master, f"{code_behind(LINK.search(said).group())}\n".encode())
    while "Logged in as scientist@example.org." not in said:
        said += os.read(master, 4096).decode()
    assert process.wait(timeout=60) == 0
    os.close(master)


BROWSER = """
import sys, urllib.request
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
with opener.open(sys.argv[1], timeout=60) as answer:
    answer.read()
"""


@pytest.fixture
def desktop(terminal, tmp_path):
    """The same machine with a display and a browser."""
    script = tmp_path / "browser.py"
    script.write_text(BROWSER)
    terminal.environment |= {"DISPLAY": ":0", "BROWSER": f"{sys.executable} {script} %s"}
    return terminal


def test_a_login_in_the_browser(desktop):
    """If a browser is available, the login completes in it without a typed code."""
    done = desktop.run("login")
    assert (done.returncode, done.stdout, done.stderr) == (0, "Logged in as scientist@example.org.\n", "")
    assert desktop.simulator.authority.logins[0]["redirect_uri"].startswith("http://127.0.0.1:")


def test_a_login_that_the_user_refuses(desktop):
    """Refusing the login in the browser exits with 4 and a one-line message."""
    desktop.simulator.authority.approves = False
    done = desktop.run("login")
    assert done.returncode == 4
    assert done.stderr == (
        "chiltepin: The login in the browser was not completed; run: chiltepin login --no-local-server\n"
    )


@pytest.mark.parametrize(
    "environment", [{"DISPLAY": ""}, {"SSH_TTY": "/dev/pts/1"}, {"BROWSER": "no-such-browser"}], ids=str
)
def test_without_a_browser_there_is_a_link(desktop, environment):
    """Without a display or a browser, or on a remote machine, the command prints a link and starts no server."""
    desktop.environment |= environment
    desktop.environment["PATH"] = str(Path(COMMAND).parent)
    assert "Logged in as" in desktop.log_in().stdout
    assert desktop.simulator.authority.logins[0]["redirect_uri"].endswith("/v2/web/auth-code")


def test_no_local_server_leaves_the_browser_alone(desktop):
    """--no-local-server prints the link even if a browser is available."""
    assert "Logged in as" in desktop.log_in("--no-local-server").stdout


@pytest.mark.parametrize("command", ["login", "whoami"])
def test_without_a_terminal_nothing_waits(terminal, command):
    """With an empty standard input a command exits at once with 4, and the message gives the command to run."""
    ended = terminal.run(command)
    assert ended.returncode == 4
    assert ended.stderr.strip().startswith("chiltepin: ")
    assert ended.stderr.endswith("run: chiltepin login\n")
    assert "Traceback" not in ended.stderr


def test_without_any_input_there_is_a_sentence_too(terminal):
    """A process without a standard input exits with 4 and says so."""
    ended = subprocess.run(
        ["sh", "-c", f"'{COMMAND}' login <&-"],
        env=terminal.environment,
        cwd=terminal.folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode == 4
    assert "No terminal to type a code in" in ended.stderr


def test_a_workflow_in_a_terminal_never_prompts(terminal):
    """A workflow on a terminal never prompts for a login; a client without a login raises an error."""
    master, slave = pty.openpty()
    code = "from chiltepin.backends.globus import auth; auth.transfer_client()"
    run = subprocess.run(
        [sys.executable, "-c", code],
        env=terminal.environment,
        cwd=terminal.folder,
        stdin=slave,
        stdout=slave,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=60,
    )
    os.close(slave)
    os.close(master)
    assert run.stderr.splitlines()[-1].endswith("Not logged in to Globus; run: chiltepin login")


def test_a_wrong_code_is_refused(terminal):
    """An unknown code exits with 4 and stores no login."""
    refused = terminal.log_in(code="wrong")
    assert refused.returncode == 4
    assert "rejected this code" in refused.stderr
    assert terminal.run("whoami").returncode == 4


def test_consent_is_given_for_what_wants_it(terminal):
    """--consent accepts endpoint names, display names and UUIDs, and requests only the consents that are required."""
    scratch, laptop = (terminal.simulator.collection(name).id for name in ("scratch", "laptop"))
    (terminal.folder / "chiltepin.yaml").write_text(f"data:\n  endpoints:\n    hpc-scratch:\n      globus: {scratch}\n")
    done = terminal.log_in("--consent", "hpc-scratch", "--consent", "archive", "--consent", laptop)
    assert done.returncode == 0
    assert f"{laptop} needs no consent." in done.stdout
    assert "Chiltepin can now access the data of hpc-scratch and archive." in done.stdout
    first, second = terminal.simulator.authority.logins
    assert "data_access" not in first["scope"]
    assert second["scope"].count("data_access") == 2
    assert laptop not in second["scope"]
    again = terminal.run("login", "--consent", "archive")
    assert (again.returncode, again.stdout.splitlines()[1]) == (0, "archive has your consent already.")


def test_consent_that_is_not_given(terminal):
    """If no code is entered for a consent, the exit code is 4 and the login is kept."""
    terminal.log_in()
    refused = terminal.run("login", "--consent", "archive")
    assert refused.returncode == 4
    assert terminal.run("whoami").returncode == 0


def test_consent_for_nothing_that_is_there(terminal):
    """An unknown name exits with 1 after the login and requests no consent."""
    ended = terminal.log_in("--consent", "scrtch")
    assert ended.returncode == 1
    assert "No endpoint named 'scrtch'" in ended.stderr
    assert len(terminal.simulator.authority.logins) == 1


def test_what_a_session_wants_reaches_the_login_page(terminal):
    """The domain, identity, policies and MFA of a session are requested from the login page, even with a login."""
    terminal.log_in()
    options = ("--session-domain", "example.org", "--session-identity", "me@example.org", "--session-mfa")
    done = terminal.log_in(*options, "--session-policy", "p1", "--session-policy", "p2")
    assert done.returncode == 0
    asked = terminal.simulator.authority.logins[1]
    assert asked["session_required_single_domain"] == "example.org"
    assert asked["session_required_identities"] == "me@example.org"
    assert asked["session_required_policies"] == "p1,p2"
    assert asked["session_required_mfa"] == "True"
    assert asked["prompt"] == "login"


def test_force_logs_in_anew(terminal):
    """--force opens the login page even with a login."""
    terminal.log_in()
    assert "Logged in as" in terminal.log_in("--force").stdout
    assert terminal.simulator.authority.logins[1]["prompt"] == "login"


def test_the_settings_name_the_client(terminal):
    """``data: globus: client_id:`` selects the client that logs in and whose login whoami and logout use."""
    mine = "11111111-2222-4333-8444-555555555555"
    (terminal.folder / "chiltepin.yaml").write_text(f"data:\n  globus:\n    client_id: {mine}\n")
    terminal.log_in()
    assert terminal.simulator.authority.logins[0]["client_id"] == mine
    assert terminal.run("whoami").returncode == 0
    assert terminal.run("logout").stdout == "Logged out.\n"


def test_service_credentials_need_no_login(terminal):
    """With service credentials, login says that no login is needed, and whoami prints the client."""
    authority = terminal.simulator.authority
    service = {"CHILTEPIN_CLIENT_ID": authority.client_id, "CHILTEPIN_CLIENT_SECRET": authority.client_secret}
    done = terminal.run("login", **service)
    assert (done.returncode, authority.logins) == (0, [])
    assert "no login is needed" in done.stdout
    assert terminal.run("whoami", **service).stdout.startswith(f"{authority.client_id}@clients.auth.globus.org")
    refused = terminal.run("whoami", **service | {"CHILTEPIN_CLIENT_SECRET": "wrong"})
    assert refused.returncode == 4
    assert "CHILTEPIN_CLIENT_ID and CHILTEPIN_CLIENT_SECRET" in refused.stderr


def test_a_secret_without_its_client_is_a_wrong_setting(terminal):
    """Incomplete service credentials exit with 2."""
    terminal.environment |= {"CHILTEPIN_CLIENT_SECRET": "half"}
    ended = terminal.run("login")
    assert ended.returncode == 2
    assert "CHILTEPIN_CLIENT_ID is not" in ended.stderr


def test_a_globus_that_is_not_there(terminal):
    """Without a network the command exits with 1 and says so."""
    terminal.log_in()
    terminal.simulator.authority.expire_all()
    terminal.simulator.close()
    ended = terminal.run("whoami")
    assert ended.returncode == 1
    assert "check that this machine can reach auth.globus.org" in ended.stderr
