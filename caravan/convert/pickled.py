"""torch's pickled files, read and written a tensor at a time, without running what they hold.

torch keeps values uncompressed in a zip file and says where each begins, if asked under its fake tensors
(pytorch.org/docs/stable/notes/serialization.html); a file is written with room for values, which are filled in after.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.serialization import skip_data

from caravan.convert.weights import Lazy, values
from caravan.core.errors import ModelError
from caravan.core.files import atomic_path

# What a file may name and is then made; anything else is stood in for.
_KNOWN = {
    ("collections", "OrderedDict"),
    ("argparse", "Namespace"),
    ("torch", "Size"),
    ("torch", "device"),
    ("torch.serialization", "_get_layout"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_parameter"),
    ("torch.storage", "UntypedStorage"),
}


class Unknown:
    """Stands in for an object of a class that is not ours to make: it takes whatever it is made of and does nothing."""

    def __new__(cls, *_: Any, **__: Any) -> Unknown:
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...

    def __call__(self, *_: Any, **__: Any) -> Unknown:
        return self

    def append(self, _: Any) -> None: ...

    def extend(self, _: Any) -> None: ...

    def __setitem__(self, _: Any, __: Any) -> None: ...


class InertUnpickler(pickle.Unpickler):
    """Makes nothing but what `_KNOWN` names, storages and types of torch."""

    def find_class(self, module: str, name: str) -> Any:
        storage_or_type = module == "torch" and (name.endswith("Storage") or (hasattr(torch, name) and _is_type(name)))
        return super().find_class(module, name) if storage_or_type or (module, name) in _KNOWN else Unknown


def _is_type(name: str) -> bool:
    return isinstance(getattr(torch, name), torch.dtype)


@dataclass(frozen=True)
class Filed(Lazy):
    """A tensor of a file, of which some values alone can be read: those from a place on, flat."""

    part: Callable[[int, int], Tensor]


def open_pickled(file: Path) -> Any:
    """What a file holds, its tensors as `Filed`; objects of other libraries' classes as `Unknown`.

    Raises:
        ModelError: not such a file, or one of before PyTorch 1.6.
    """
    try:
        held = _fake(file)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError, AttributeError) as error:
        raise ModelError(
            "not a file of torch",
            where=str(file),
            expected="what `torch.save` writes since PyTorch 1.6",
            got=str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__,
            fix="copy it again",
        ) from error
    return _changed(held, Tensor, partial(_filed, file))


def write_pickled(file: Path, value: Any) -> None:
    """Write as `torch.save` does, each `Lazy` as a tensor, one at a time.

    Raises:
        DiskFullError: there is no room.
    """
    with atomic_path(file) as temporary:
        places = reserve(temporary, value)
        with temporary.open("r+b") as stream:
            for lazy, place in zip(leaves(value, Lazy), places, strict=True):
                stream.seek(place)
                stream.write(values(file.name, lazy).data)


def reserve(file: Path, value: Any) -> list[int]:
    """Write a file with room for each `Lazy`; where in it the values of each begin, in order."""
    with FakeTensorMode(), skip_data(materialize_fake_tensors=True):
        torch.save(_changed(value, Lazy, lambda lazy: torch.empty(lazy.shape, dtype=lazy.dtype)), file)
    return [_offset(fake) for fake in leaves(_fake(file), Tensor)]


def leaves(value: Any, kind: type) -> Iterator[Any]:
    """Everything of a kind in nested mappings and lists, in order."""
    if isinstance(value, kind):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from leaves(each, kind)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from leaves(each, kind)


def _changed(value: Any, kind: type, change: Callable[[Any], Any]) -> Any:
    if isinstance(value, kind):
        return change(value)
    if isinstance(value, Mapping):
        changed = ((key, _changed(each, kind, change)) for key, each in value.items())
        return OrderedDict(changed) if isinstance(value, OrderedDict) else dict(changed)
    if isinstance(value, (list, tuple)) and not isinstance(value, torch.Size):
        return [_changed(each, kind, change) for each in value]
    return value


def _fake(file: Path) -> Any:
    """What a file holds, its tensors without values."""
    reader = SimpleNamespace(Unpickler=InertUnpickler, __name__="pickle")
    with FakeTensorMode():
        return torch.load(file, map_location="cpu", weights_only=False, pickle_module=reader)


def _offset(fake: Tensor) -> int:
    """Where in its file a tensor begins, in bytes."""
    begins: int = cast(Any, fake.untyped_storage())._checkpoint_offset
    return begins + int(fake.storage_offset()) * fake.dtype.itemsize


def _filed(file: Path, fake: Tensor) -> Filed:
    return Filed(tuple(fake.shape), fake.dtype, partial(_read, file, fake), partial(_part, file, fake))


def _part(file: Path, fake: Tensor, start: int, count: int) -> Tensor:
    """Some values of a contiguous tensor, flat."""
    if not count:
        return torch.empty(0, dtype=fake.dtype)
    at = _offset(fake) + start * fake.dtype.itemsize
    return torch.from_numpy(np.fromfile(file, np.uint8, count * fake.dtype.itemsize, offset=at)).view(fake.dtype)


def _read(file: Path, fake: Tensor) -> Tensor:
    if fake.is_contiguous():
        return _part(file, fake, 0, fake.numel()).reshape(fake.shape)
    whole = fake.untyped_storage().nbytes() // fake.dtype.itemsize
    flat = _part(file, fake, -fake.storage_offset(), whole)
    return flat.as_strided(fake.shape, fake.stride(), fake.storage_offset()).contiguous()
