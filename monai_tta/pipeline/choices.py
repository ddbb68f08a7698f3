"""Values of frozen dataclasses from texts: "blend=0.3", "optimizer.lr=1e-3", "select=Biases". Nothing is evaluated."""

from __future__ import annotations

import ast
import types
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass, replace
from inspect import isabstract
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from monai_tta.pipeline.match_names import did_you_mean, letters, match_name


def build_value(kind: type, name: str, choices: Iterable[str]) -> Any:
    """An instance of a frozen dataclass with the choices given.

    Args:
        kind: the dataclass.
        name: what messages call it.
        choices: each as "NAME=VALUE", where NAME is a field or a path to a field of a value that it holds.

    Raises:
        ValueError: for an unknown field, listing the known ones, or a value that the field does not take.
    """
    root = Choice(name)
    for choice in choices:
        path, equals, text = choice.partition("=")
        if not path or not equals or not text:
            raise ValueError(f"{name} has no choice {choice!r}; give NAME=VALUE with a NAME of {_names(kind)}")
        root.add(path.split("."), text)
    try:
        return _build(kind, root)
    except TypeError as error:
        raise ValueError(f"{name} cannot use these choices: {error}") from error


@dataclass
class Choice:
    """What was chosen for one field: its own value as text, and what was chosen for the fields of that value."""

    place: str
    text: str | None = None
    inside: dict[str, Choice] = field(default_factory=dict)

    def add(self, path: Sequence[str], text: str) -> None:
        """Note that ``text`` was chosen for the field at the end of ``path``."""
        if not path:
            self.text = text
            return
        self.inside.setdefault(path[0], Choice(f"{self.place}.{path[0]}")).add(path[1:], text)


def _build(kind_or_value: Any, choice: Choice) -> Any:
    """A class's instance, or a changed copy of a value, with the fields that were chosen."""
    kind = kind_or_value if isinstance(kind_or_value, type) else type(kind_or_value)
    known = _choosable(kind)
    given = {}
    for name, inner in choice.inside.items():
        if name not in known:
            raise ValueError(f"{choice.place} has no choice {name!r}.{did_you_mean(name, known)} It has: {_names(kind)}")
        spec, hint = known[name]
        current = spec.default if isinstance(kind_or_value, type) else getattr(kind_or_value, name)
        if inner.text is not None:
            current = _parse(inner.text, hint, current, inner)
        elif not is_dataclass(current):
            raise ValueError(f"{inner.place} is {current!r}, which has no choices of its own")
        given[name] = _build(current, inner) if inner.inside or isinstance(current, type) else current
    if not isinstance(kind_or_value, type):
        return replace(kind_or_value, **given)
    if missing := [name for name, (spec, _) in known.items() if name not in given and spec.default is MISSING]:
        raise ValueError(f"{choice.place}={kind.__name__} needs {', '.join(f'{choice.place}.{name}' for name in missing)}, too")
    return kind(**given)


def _choosable(kind: type) -> dict[str, tuple[Field[Any], Any]]:
    """The fields of a dataclass that a text can give, with their types."""
    if not is_dataclass(kind):
        return {}
    hints = get_type_hints(kind)
    return {
        f.name: (f, hints[f.name])
        for f in fields(kind)
        if f.init and (_is_plain(hints[f.name]) or _classes(hints[f.name], f.default))
    }


def _names(kind: type) -> str:
    return ", ".join(_choosable(kind)) or "none"


def _is_plain(hint: Any) -> bool:
    """Whether a type's values are numbers, words, truth values, None, and tuples of these."""
    if get_origin(hint) in (Union, types.UnionType, tuple):
        return all(part is ... or _is_plain(part) for part in get_args(hint))
    return get_origin(hint) is Literal or hint in (int, float, str, bool, type(None))


def _classes(hint: Any, current: Any) -> dict[str, type]:
    """The public classes whose instances a field takes, by name."""
    import monai_tta

    if not is_dataclass(current):
        return {}
    base = _base(hint, current)
    public = {name: getattr(monai_tta, name) for name in dir(monai_tta)}
    return {
        name: value
        for name, value in public.items()
        if isinstance(value, type) and issubclass(value, base) and is_dataclass(value) and not isabstract(value)
    }


def _base(hint: Any, current: Any) -> type:
    """The class whose instances a field takes: its type, or where that says nothing the class of what it holds."""
    return hint if isinstance(hint, type) and hint is not Any else type(current)


def _parse(text: str, hint: Any, current: Any, choice: Choice) -> Any:
    """A value, or the class that a text names; the class is built later, with what was chosen for its fields."""
    if not _is_plain(hint):
        classes = _classes(hint, current)
        return classes[match_name(_base(hint, current).__name__, text, classes)]
    try:
        return _plain_value(text, hint)
    except ValueError as error:
        raise ValueError(f"{choice.place} takes {error}, found {text!r}") from None


def _plain_value(text: str, hint: Any) -> Any:
    """A number, word, truth value, None or tuple of these.

    Raises:
        ValueError: with what the type takes as its message.
    """
    if get_origin(hint) is Literal:
        known = {letters(word): word for word in get_args(hint)}
        if letters(text) not in known:
            raise ValueError(f"one of {', '.join(get_args(hint))}")
        return known[letters(text)]
    if get_origin(hint) in (Union, types.UnionType):
        return _value_of_any(text, get_args(hint))
    value = _literal(text)
    if hint is str:
        return value if isinstance(value, str) else text
    if get_origin(hint) is tuple:
        return _plain_tuple(value, get_args(hint))
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        raise ValueError({int: "a whole number", float: "a number", bool: "True or False", type(None): "None"}[hint])
    return value


def _value_of_any(text: str, hints: Sequence[Any]) -> Any:
    """The value of the first of several types that takes a text."""
    wanted = []
    for hint in hints:
        try:
            return _plain_value(text, hint)
        except ValueError as error:
            wanted.append(str(error))
    raise ValueError(" or ".join(wanted))


def _plain_tuple(value: Any, hints: Sequence[Any]) -> tuple[Any, ...]:
    """A tuple whose members have these types; ``(int, ...)`` takes any number of members."""
    members = value if isinstance(value, tuple | list) else (value,)
    kinds = [hints[0]] * len(members) if len(hints) == 2 and hints[1] is ... else list(hints)
    wanted = f"numbers between commas, {len(kinds)} of them" if ... not in hints else "numbers between commas"
    if len(kinds) != len(members):
        raise ValueError(wanted)
    try:
        return tuple(_plain_value(repr(member), kind) for member, kind in zip(members, kinds, strict=True))
    except ValueError as error:
        raise ValueError(wanted) from error


def _literal(text: str) -> Any:
    """A number, truth value, None, text in quotes or tuple; any other text as it is."""
    known = {"true": True, "false": False, "none": None}
    if text.lower() in known:
        return known[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
