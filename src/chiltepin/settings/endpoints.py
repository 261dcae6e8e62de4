"""Check the ``data`` section and turn it into `DataSettings`."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any

import platformdirs
from pydantic import BaseModel, BeforeValidator

from chiltepin.errors import shown, suggest
from chiltepin.model import CHECKSUMS, FAULT_GRACE, NOTIFY_EVENTS, THIS_MACHINE, endpoint_name, notify_events
from chiltepin.protocol.paths import machine_path
from chiltepin.settings.data import DataSettings, Endpoint
from chiltepin.settings.duplicate_endpoints import folder_problems, name_problems
from chiltepin.settings.messages import Problem, Strict, misfit, validate
from chiltepin.settings.options import option_problems, plain
from chiltepin.settings.resources import Count, Resource, Seconds, Text, uuid_text

if TYPE_CHECKING:
    from collections.abc import Collection

    from chiltepin.settings.document import KeyPath

__all__ = ["BUILT_IN", "read_data"]

#: Backends whose keys are known even if they are not installed, because many machines share one file.
BUILT_IN = ("filesystem", "globus", "local")

#: The environment variable for the folder of the journal; the settings take precedence.
JOURNAL_VARIABLE = "CHILTEPIN_JOURNAL"

#: The key that plain text under the name of a backend stands for.
_SHORTHAND = {"filesystem": "url", "globus": "collection", "local": "folder"}


#: The name of a user at the start of a path.
_USER = re.compile(r"~([A-Za-z_][\w.-]*)(?=/|$)")


def _path_text(value: Any) -> Any:
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    # A file name may contain any character but NUL; a URL is printable text.
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise misfit("write a path or a URL")
    if machine_path(value) is None and not value.isprintable():
        raise misfit("write a path or a URL")
    return value


def machine_folder(value: Any, *, example: str) -> str:
    """Return a folder of this machine as written; a URL of another machine or store is refused, with an example."""
    text = str(_path_text(value))
    if not _is_of_this_machine(text):
        raise misfit(f"write a folder of this machine, such as {example}")
    return _known_home(text)


def _is_of_this_machine(path: str) -> bool:
    here = machine_path(path)
    whole = path.lower().startswith(("file://", "local://"))
    return here is not None and "\0" not in here and (not whole or here.startswith("/"))


def _known_home(path: str) -> str:
    # os.path.expanduser leaves the name of an unknown user as it is, which would be a relative path.
    user = _USER.match(path)
    if user and os.path.expanduser(path) == path:
        raise misfit(f"write an absolute path, because this machine has no user {user[1]!r}")
    return path


def _location(value: Any) -> Any:
    return _known_home(str(_path_text(value)))


def _root(value: Any) -> str:
    return machine_folder(value, example="/scratch/me/sandbox")


def _absolute(value: Any) -> Any:
    if not isinstance(_path_text(value), str) or not str(value).startswith("/"):
        raise misfit("write the absolute path where programs on that machine see the endpoint, such as /scratch")
    return os.path.normpath(value)


def _home(value: Any) -> Any:
    text = _path_text(value)
    if ".." in PurePosixPath(text).parts or text.startswith("~"):
        raise misfit("write a path from the root of the endpoint, without '..' and '~', such as /users/me")
    return text


def _journal(value: Any) -> str:
    if value is False:
        return ""
    if value is True:
        raise misfit("write the folder of the journal, or false for none")
    return machine_folder(value, example="/scratch/me/journal")


def _inner_folder(value: Any) -> str:
    text = str(_path_text(value))
    parts = PurePosixPath(text).parts
    if text.startswith(("/", "~")) or ".." in parts or not parts:
        raise misfit("write the name of a folder inside root, such as 'scratch'")
    return "/".join(parts)


_Mount = Annotated[str, BeforeValidator(_absolute)]


def _collection(value: Any) -> str:
    if value == THIS_MACHINE:
        return THIS_MACHINE
    return uuid_text(value, f"write a UUID, such as 12345678-1234-1234-1234-123456789abc, or {THIS_MACHINE}")


def _client_id(value: Any) -> str:
    return uuid_text(value, "write the UUID of a native app that is registered at Globus")


def _executor(value: Any) -> str | tuple[str, ...]:
    labels = [value] if isinstance(value, str) else value
    if not isinstance(labels, list | tuple) or not labels or not all(isinstance(label, str) for label in labels):
        raise misfit("write the name of a resource, a list of names, or all")
    return "all" if list(labels) == ["all"] else tuple(labels)


def _notify(value: Any) -> bool | list[str]:
    if isinstance(value, bool):
        return value
    if (events := notify_events(value)) is None:
        raise misfit(f"write true or false, or a list of {', '.join(NOTIFY_EVENTS)}")
    return list(events)


def _algorithm(value: Any) -> str:
    if not isinstance(value, str) or value.lower() not in CHECKSUMS:
        raise misfit(f"write one of {', '.join(CHECKSUMS)}")
    return value.lower()


class _General(Strict):
    """The keys of the section that belong to no backend."""

    backend: Text = "globus"
    check: bool = True
    executor: Annotated[str | tuple[str, ...], BeforeValidator(_executor)] | None = None
    fault_grace: Seconds = FAULT_GRACE
    workers: Count = 1
    batch: bool = True
    journal: Annotated[str, BeforeValidator(_journal)] | None = None
    root: Annotated[str, BeforeValidator(_root)] = "sandbox"


class _Home(Strict):
    """The keys of an endpoint that belong to no backend."""

    home: Annotated[str, BeforeValidator(_home)] | None = None


class _GlobusPlace(Strict):
    collection: Annotated[str, BeforeValidator(_collection)]
    local_user: Text | None = None
    mount: _Mount | None = None


class _FilesystemPlace(Strict):
    url: Annotated[str, BeforeValidator(_location)]
    mount: _Mount | None = None
    options: dict[str, Any] | None = None


class _LocalPlace(Strict):
    folder: Annotated[str, BeforeValidator(_inner_folder)]


class _GlobusOptions(Strict):
    client_id: Annotated[str, BeforeValidator(_client_id)] | None = None
    notify: Annotated[bool | list[str], BeforeValidator(_notify)] = False
    encrypt_data: bool = False
    fail_on_quota_errors: bool = False
    checksum_algorithm: Annotated[str, BeforeValidator(_algorithm)] = ""


#: The options of the built-in backends in the section itself.
_OPTIONS: dict[str, type[BaseModel]] = {"globus": _GlobusOptions}

_PLACES: dict[str, type[BaseModel]] = {"globus": _GlobusPlace, "filesystem": _FilesystemPlace, "local": _LocalPlace}

#: Keys of a location that are often written one level too high.
_BELONGS = {"collection": "globus", "folder": "local", "options": "filesystem", "url": "filesystem"}


def read_data(section: Any, *, backends: Collection[str], folder: str, file: str) -> tuple[DataSettings, list[Problem]]:
    """Check the value of ``data``; return its settings, valid only without problems, and all problems.

    Relative paths are resolved against the absolute path ``folder``.
    """
    reader = _Reader(frozenset(backends) | set(BUILT_IN), folder)
    return reader.section({} if section is None else section, file), reader.problems


def located(path: str, folder: str) -> str:
    """Return a path of this machine as an absolute path, resolved against ``folder``; other URLs are unchanged."""
    here = machine_path(path)
    return path if here is None else _tidied(os.path.join(folder, os.path.expanduser(here)))


def _tidied(path: str) -> str:
    """Return an absolute path without ``.``, and without ``..`` unless that follows a link."""
    place = ""
    for name in path.split("/"):
        # When the path is opened, the kernel applies ``..`` to the target of the link (path_resolution(7)).
        if name == ".." and os.path.basename(place) != ".." and not os.path.islink(place):
            place = os.path.dirname(place).rstrip("/")
        elif name not in ("", "."):
            place += f"/{name}"
    return place or "/"


class _Reader:
    """Reads one ``data`` section, and collects its problems."""

    def __init__(self, known: frozenset[str], folder: str) -> None:
        self.problems: list[Problem] = []
        self._known = known
        self._folder = folder

    def section(self, section: Any, file: str) -> DataSettings:
        """Return the settings of the section."""
        where: KeyPath = ("data",)
        if not self._is_mapping(section, where, "'backend:' and 'endpoints:' below it"):
            return DataSettings(file=file, root=self._folder)
        general = self._general(section)
        return DataSettings(
            file=file,
            backend=general.backend,
            check=general.check,
            executor=general.executor,
            fault_grace=general.fault_grace,
            workers=general.workers,
            batch=general.batch,
            journal=self._journal(general.journal),
            root=located(general.root, self._folder),
            endpoints=self._endpoints(section.get("endpoints")),
            backends={name: self._options(name, section[name]) for name in sorted(self._known) if name in section},
        )

    def _journal(self, written: str | None) -> str:
        """Return the folder of the journal: from the settings, the environment, or the user's default."""
        if written is None:
            default = platformdirs.user_state_path("chiltepin") / "journal"
            return os.path.abspath(os.environ.get(JOURNAL_VARIABLE) or default)
        return located(written, self._folder) if written else ""

    def _general(self, section: Mapping[str, Any]) -> _General:
        known = (*_General.model_fields, "endpoints", *self._known)
        own: dict[str, Any] = {}
        for key, value in section.items():
            if key == "endpoint":
                self._say(("data", key), "is a key of a resource; did you mean 'endpoints'?")
            elif key in Resource.model_fields:
                self._say(
                    ("data", key),
                    "is a key of a resource, but 'data' is the section about endpoints; give the resource another name",
                )
            elif key not in self._known and key != "endpoints" and (value is not None or key not in known):
                own[key] = value
        general, problems = validate(_General, own, path=("data",), noun="the data section", known=known)
        self.problems += problems
        backend = getattr(general, "backend", None)
        if backend is not None and backend not in self._known:
            self._say(
                ("data", "backend"),
                f"is {backend!r}, which is not an installed backend; {suggest(backend, self._known)}",
            )
        return general if isinstance(general, _General) else _General()

    def _options(self, backend: str, options: Any) -> dict[str, Any]:
        where = ("data", backend)
        if options is None or not self._is_mapping(
            options, where, "options of this backend below it, as 'name: value'"
        ):
            return {}
        if backend == "local" and "root" in options:
            self._say((*where, "root"), "is one level too deep; write 'root:' directly below 'data:'")
        self.problems += option_problems(options, where)
        if model := _OPTIONS.get(backend):
            checked, misfits = validate(model, options, path=where, noun=f"the backend {backend!r}")
            self.problems += misfits
            return checked.model_dump(exclude_unset=True) if checked else {}
        return {str(name): plain(value) for name, value in options.items()}

    def _endpoints(self, endpoints: Any) -> dict[str, Endpoint]:
        where = ("data", "endpoints")
        if endpoints is None or not self._is_mapping(endpoints, where, "the names of endpoints below it"):
            return {}
        found = {name: self._endpoint(body, (*where, name)) for name, body in endpoints.items()}
        self.problems += name_problems(found)
        named = {endpoint_name(str(name)): endpoint for name, endpoint in found.items()}
        self.problems += folder_problems(named)
        return named

    def _endpoint(self, body: Any, where: KeyPath) -> Endpoint:
        body = {} if body is None else body
        if not self._is_mapping(body, where, "below it where it is on each backend, such as 'filesystem: /scratch'"):
            return Endpoint()
        own: dict[str, Any] = {}
        places = {}
        for key, value in body.items():
            if key in self._known:
                if place := self._place(key, value, (*where, key)):
                    places[key] = place
            elif key in _BELONGS:
                self._say((*where, key), f"is one level too high; write it below '{_BELONGS[key]}:'")
            elif value is not None or key != "home":
                own[key] = value
        home, problems = validate(_Home, own, path=where, noun="an endpoint", known=("home", *self._known))
        self.problems += problems
        if not body.get("local") and (where[-1] in {"", ".", ".."} or "/" in str(where[-1]) or "\0" in str(where[-1])):
            self._say(
                where, "cannot be the name of a folder for the backend 'local'; add 'local: some-folder' below it"
            )
        return Endpoint(home=getattr(home, "home", None), places=places)

    def _place(self, backend: str, value: Any, where: KeyPath) -> dict[str, Any]:
        if value is None and backend == "local":
            return {}
        short = isinstance(value, str | os.PathLike)
        place = {_SHORTHAND.get(backend, "location"): value} if short else value
        if not self._is_mapping(place, where, f"where the endpoint is on the backend {backend!r}"):
            return {}
        problems = list(option_problems(place, where))
        if model := _PLACES.get(backend):
            checked, misfits = validate(model, place, path=where, noun=f"a location on the backend {backend!r}")
            problems += misfits
            place = checked.model_dump(exclude_none=True) if checked else {}
        # In the short form, the file has no such key.
        self.problems += [replace(problem, path=where) for problem in problems] if short else problems
        if backend == "filesystem" and "url" in place:
            if machine_path(place["url"]) is not None and not _is_of_this_machine(place["url"]):
                self._say(
                    where, f"is {shown(place['url'])}, which is not a folder of this machine; write 'file:///...'"
                )
            place["url"] = located(place["url"], self._folder)
        return {str(key): plain(item) for key, item in place.items()}

    def _is_mapping(self, value: Any, where: KeyPath, remedy: str) -> bool:
        if isinstance(value, Mapping):
            return True
        said = "is empty" if value is None else f"is {shown(value)}"
        self._say(where, f"{said}; write {remedy}")
        return False

    def _say(self, where: KeyPath, sentence: str) -> None:
        self.problems.append(Problem(path=where, sentence=sentence))
