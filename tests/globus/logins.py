"""A user who logs in by herself: she opens the link that the SDK prints, and types in the code of the page."""

from __future__ import annotations

import re
import urllib.request

from globus_sdk.login_flows import CommandLineLoginFlowManager

from chiltepin.backends.globus import auth
from chiltepin.backends.globus.auth_errors import call_auth
from chiltepin.backends.globus.credentials import choose_credentials


def open_page(url):
    """Return the text of a page, reached without any proxy."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=20) as answer:
        return answer.read().decode()


def code_behind(url):
    """Return the code that the login page gives after the user has agreed."""
    return re.search("<code>(.+?)</code>", open_page(url)).group(1)


class User(CommandLineLoginFlowManager):
    """The flow of a terminal, with somebody in front of it."""

    def print_authorize_url(self, authorize_url):
        """Open the link instead of printing it."""
        self._code = code_behind(authorize_url)

    def prompt_for_code(self):
        """Type in the code."""
        return self._code


def log_in(*collections):
    """Log the user of the simulator in, with her consent to the data of some collections."""
    with auth.make_app(choose_credentials(), login_flow_manager=User) as app:
        if collections:
            app.add_scope_requirements({"transfer.api.globus.org": auth.data_access(collections)})
        call_auth(lambda: app.login(force=True))
