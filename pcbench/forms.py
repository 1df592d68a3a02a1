"""What a value that was read from a file must look like: pydantic's models, and one line for what does not."""

from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

T = TypeVar("T")


class Form(BaseModel):
    """A table with these keys and no others; numbers are no texts, and truth values no numbers."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Open(BaseModel):
    """A table with these keys at least."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


def _different(values: list[T]) -> list[T]:
    if len(set(values)) < len(values):
        raise ValueError("its items must be different")
    return values


def _given(value: Any) -> Any:
    if value is None:
        raise ValueError("a value belongs there")
    return value


Given = Annotated[Any, AfterValidator(_given)]
Text = Annotated[str, Field(min_length=1)]
Positive = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
Different = Annotated[list[T], AfterValidator(_different)]
Some = Annotated[list[T], Field(min_length=1), AfterValidator(_different)]
NotEmpty = Annotated[list[T], Field(min_length=1)]
Table = Annotated[dict[str, T], Field(min_length=1)]


def fault(value: Any, form: Any) -> str | None:
    """Say where and why ``value`` has not the form.

    Args:
        value: of plain dicts, lists and numbers, as YAML and JSON give them.
        form: a `Form`, or any type that pydantic knows.

    Returns:
        One line, such as ``"cost.warmup is -1: input should be greater than or equal to 0"``; None if it has the form.
    """
    try:
        TypeAdapter(form).validate_python(value)
    except ValidationError as error:
        return _told(error.errors()[0], value, form)
    return None


def _told(error: Any, value: Any, form: Any) -> str:
    # Of an alternative pydantic names the type too, in brackets or as a class; no key of ours looks so.
    where = [part for part in error["loc"] if not (isinstance(part, str) and ("[" in part or part.istitle()))]
    place = ".".join(map(str, where)) or "the file"
    if error["type"] in ("missing", "extra_forbidden"):
        *above, key = error["loc"]
        inside = ".".join(map(str, above)) or "the file"
        if error["type"] == "missing":
            return f"{inside} has no key {key!r}"
        return f"{inside} has an unknown key {key!r}; its keys are {', '.join(_keys(form, above))}"
    if error["type"] == "model_type":
        keys = ", ".join(_keys(form, list(error["loc"])))
        return f"{place} is {error['input']!r}: input should be a table with the keys {keys}"
    message = error["msg"].removeprefix("Value error, ").partition(" or instance of ")[0]
    return f"{place} is {error['input']!r}: {message[0].lower()}{message[1:]}"


def _keys(form: Any, path: list[Any]) -> list[str]:
    """The keys of the table at ``path``."""
    for step in path:
        fields = getattr(form, "model_fields", {})
        form = fields[step].annotation if step in fields else form.__args__[-1]
    return list(form.model_fields)
