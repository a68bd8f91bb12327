"""Read the bodies of requests: JSON that is hostile until checked, and forms with images."""

import json
from typing import Any, NoReturn, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException

from gramstyle.errors import OptionError
from gramstyle.serve.limits import Limits

M = TypeVar("M", bound=BaseModel)


def parsed(data: bytes | str, model: type[M]) -> M:
    """Return JSON as a model; raises OptionError."""
    try:
        value = json.loads(data, parse_constant=_no_constant)
        json.dumps(value, ensure_ascii=False).encode()  # refuses half of a surrogate pair
    except (ValueError, RecursionError):
        raise OptionError("the request is not valid JSON") from None
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the request"
        raise OptionError(f"{where}: {first['msg']}") from None


async def form_of(request: Request, limits: Limits) -> FormData:
    """Return a form with images; raises OptionError."""
    try:
        return await request.form(max_files=1 + limits.styles, max_fields=1, max_part_size=100_000)
    except HTTPException as error:
        raise OptionError(f"the form cannot be read: {error.detail}") from None
    except (LookupError, ValueError):  # an unknown charset, for example
        raise OptionError("the form cannot be read; send multipart/form-data") from None


def files_in(form: FormData, name: str, limits: Limits) -> list[UploadFile]:
    """Return the files of a form under a name; raises OptionError, and HTTPException for size."""
    found = form.getlist(name)
    if not all(isinstance(each, UploadFile) for each in found):
        raise OptionError(f"{name} must be a file")
    files = [each for each in found if isinstance(each, UploadFile)]
    most = limits.upload_bytes
    if any((each.size or 0) > most for each in files):
        raise HTTPException(413, f"{name} has more than {most:,} bytes, the limit of this server")
    return files


def text_in(form: FormData, name: str) -> str:
    """Return a text field of a form; raises OptionError."""
    value: Any = form.get(name) or "{}"
    if not isinstance(value, str):
        raise OptionError(f"{name} must be text")
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)
