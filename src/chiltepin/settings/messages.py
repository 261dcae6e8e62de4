"""Problems of settings as sentences: what, which value, what to type instead."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import PydanticCustomError

from chiltepin.errors import ConfigError, shown, suggest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pydantic_core import ErrorDetails

    from chiltepin.settings.document import KeyPath

__all__ = ["Problem", "Source", "Strict", "misfit", "validate"]

M = TypeVar("M", bound=BaseModel)

#: The registry of `warnings` for all files, so that a file that is read again does not repeat its warnings.
_warned: dict[Any, Any] = {}

#: What to write instead, by pydantic's type of error; fields in braces come from pydantic.
_REMEDIES = {
    "bool_parsing": "write true or false",
    "bool_type": "write true or false",
    "int_parsing": "write a whole number",
    "int_parsing_size": "write a whole number",
    "int_type": "write a whole number",
    "int_from_float": "write a whole number",
    "finite_number": "write a number",
    "float_parsing": "write a number",
    "float_type": "write a number",
    "missing": "add it",
}


class Strict(BaseModel):
    """Some keys of the settings; any other key is an error. A model is built when it is first used."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A problem: the path to the value, and a sentence that begins after that path."""

    path: KeyPath
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The source of settings: the file as the user named it, or an empty string, and the lines of its keys."""

    file: str
    lines: Mapping[KeyPath, int]

    def line(self, path: KeyPath) -> int:
        """Return the line of a key, or of the nearest key around it; 0 without a file."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.lines:
                return self.lines[path[:end]]
        return 1 if self.file and self.lines else 0

    def sentence(self, problem: Problem) -> str:
        """Return the problem with file, line and key in front."""
        line = self.line(problem.path)
        place = f"{self.file}:{line}: " if self.file and line else f"{self.file}: " if self.file else ""
        return f"{place}{dotted(problem.path)} {problem.sentence.rstrip('.')}."

    def warn(self, problem: Problem, category: type[Warning]) -> None:
        """Warn about a problem at its line of the settings file; without a file, warn once for each text."""
        text = f"{dotted(problem.path)} {problem.sentence.rstrip('.')}."
        warnings.warn_explicit(
            text, category, self.file or "<settings>", self.line(problem.path) or 1, registry=_warned
        )

    def refuse(self, problems: Iterable[Problem]) -> NoReturn:
        """Raise one error for all problems, in the order of the file."""
        ordered = sorted(problems, key=lambda problem: self.line(problem.path))
        first = ordered[0].path
        raise ConfigError(
            "\n".join(self.sentence(problem) for problem in ordered),
            file=self.file,
            key=dotted(first),
            line=self.line(first),
        )


def dotted(path: KeyPath) -> str:
    """Return a path with dots: ``compute.environment.0``."""
    return ".".join(str(part) for part in path)


def misfit(remedy: str) -> PydanticCustomError:
    """Return the error that a validator raises; ``remedy`` says what to write instead."""
    # The text is passed as a field: pydantic would interpret braces in it.
    return PydanticCustomError("chiltepin", "{remedy}", {"remedy": remedy})


def validate(
    model: type[M], data: Mapping[str, Any], *, path: KeyPath, noun: str, known: Iterable[str] | None = None
) -> tuple[M | None, list[Problem]]:
    """Return an object of a model, or None and all problems of the data.

    Messages about an unknown key call the object by ``noun``, and suggest the ``known`` keys, by default the fields of
    the model.
    """
    names = model.model_fields if known is None else known
    try:
        return model.model_validate(dict(data)), []
    except ValidationError as err:
        # A missing key is usually misspelled; the message about the unknown key is clearer, and comes first.
        details = sorted(err.errors(include_url=False), key=lambda detail: detail["type"] == "missing")
    return None, [_problem(detail, path, noun=noun, known=names) for detail in details]


def _problem(detail: ErrorDetails, path: KeyPath, *, noun: str, known: Iterable[str]) -> Problem:
    where = (*path, *detail["loc"])
    if detail["type"] == "extra_forbidden":
        return Problem(path=where, sentence=f"is not a valid key of {noun}; {suggest(where[-1], known)}")
    if detail["type"] == "missing":
        return Problem(path=where, sentence="is missing; add it")
    remedy = _REMEDIES.get(detail["type"], detail["msg"]).format(**detail.get("ctx", {}))
    return Problem(path=where, sentence=f"is {shown(detail['input'])}; {remedy}")
