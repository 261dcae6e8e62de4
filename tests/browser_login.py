"""Log in as a user with a browser does: open the link that a command prints, and enter the code from the page."""

from __future__ import annotations

import re
import subprocess
import urllib.request

LINK = re.compile(r"http://\S+/authorize\S+")


def code_behind(url):
    """Return the code that the login page shows, without any proxy."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=60) as answer:
        return re.search("<code>(.+?)</code>", answer.read().decode()).group(1)


def run_login(command, *, code=None, stderr=subprocess.STDOUT, **options):
    """Run a command; open each link that it prints, and enter ``code`` or the code from the page."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=stderr, text=True, **options)
    output = []
    with process:
        for line in process.stdout:
            output.append(line)
            if link := LINK.search(line):
                process.stdin.write(f"{code or code_behind(link.group())}\n")
                process.stdin.flush()
        errors = process.stderr.read() if process.stderr else ""
    return subprocess.CompletedProcess(command, process.returncode, "".join(output), errors)
