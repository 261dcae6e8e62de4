"""Log the user of the simulator in, in this process."""

from __future__ import annotations

from browser_login import code_behind
from globus_sdk.login_flows import CommandLineLoginFlowManager

from chiltepin.backends.globus import auth
from chiltepin.backends.globus.auth_errors import call_auth
from chiltepin.backends.globus.credentials import choose_credentials


class User(CommandLineLoginFlowManager):
    """The login flow of a terminal, with its user."""

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
