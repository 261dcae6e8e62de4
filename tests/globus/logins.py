"""Log in the simulator's user in this process."""

from __future__ import annotations

from browser_login import code_behind
from globus_sdk.login_flows import CommandLineLoginFlowManager

from chiltepin.backends.globus import auth
from chiltepin.backends.globus.auth_errors import call_auth
from chiltepin.backends.globus.credentials import choose_credentials


class User(CommandLineLoginFlowManager):
    """The login flow of a terminal, which answers its own prompts."""

    def print_authorize_url(self, authorize_url):
        """Open the link and keep the code."""
        self._code = code_behind(authorize_url)

    def prompt_for_code(self):
        """Return the code."""
        return self._code


def log_in(*collections):
    """Log in the simulator's user, with consent to the data of some collections."""
    with auth.make_app(choose_credentials(), login_flow_manager=User) as app:
        if collections:
            app.add_scope_requirements({"transfer.api.globus.org": auth.data_access(collections)})
        call_auth(lambda: app.login(force=True))
