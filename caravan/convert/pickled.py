"""torch's pickled files, read and written a tensor at a time, without running what they hold.

torch keeps values uncompressed in a zip file and says where each begins, if asked under its fake tensors
(pytorch.org/docs/stable/notes/serialization.html); a file is written with room for values, which are filled in after.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from caravan.convert.weights import Lazy
from caravan.core.errors import ModelError

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


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        storage_or_type = module == "torch" and (name.endswith("Storage") or (hasattr(torch, name) and _is_type(name)))
        return super().find_class(module, name) if storage_or_type or (module, name) in _KNOWN else Unknown


def _is_type(name: str) -> bool:
    return isinstance(getattr(torch, name), torch.dtype)


def open_pickled(file: Path) -> Any:
    """What a file holds, its tensors as `Lazy`; objects of other libraries' classes as `Unknown`.

    Raises:
        ModelError: not such a file, or one of before PyTorch 1.6.
    """
    reader = SimpleNamespace(Unpickler=_Unpickler, __name__="pickle")
    try:
        with FakeTensorMode():
            held = torch.load(file, map_location="cpu", weights_only=False, pickle_module=reader)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError, AttributeError) as error:
        raise ModelError(
            "not a file of torch",
            where=str(file),
            expected="what `torch.save` writes since PyTorch 1.6",
            got=str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__,
            fix="copy it again",
        ) from error
    return _lazy(held, file)


def _lazy(value: Any, file: Path) -> Any:
    if isinstance(value, Tensor):
        return Lazy(tuple(value.shape), value.dtype, lambda: _read(file, value))
    if isinstance(value, Mapping):
        return {key: _lazy(each, file) for key, each in value.items()}
    if isinstance(value, (list, tuple)) and not isinstance(value, torch.Size):
        return [_lazy(each, file) for each in value]
    return value


def read_range(file: Path, fake: Tensor, start: int, count: int) -> Tensor:
    """Some values of a contiguous tensor, flat."""
    offset = cast(Any, fake.untyped_storage())._checkpoint_offset
    if not count:
        return torch.empty(0, dtype=fake.dtype)
    at = offset + (fake.storage_offset() + start) * fake.dtype.itemsize
    return torch.from_numpy(np.fromfile(file, np.uint8, count * fake.dtype.itemsize, offset=at)).view(fake.dtype)


def _read(file: Path, fake: Tensor) -> Tensor:
    if fake.is_contiguous():
        return read_range(file, fake, 0, fake.numel()).reshape(fake.shape)
    whole = fake.untyped_storage().nbytes() // fake.dtype.itemsize
    flat = read_range(file, fake, -fake.storage_offset(), whole)
    return flat.as_strided(fake.shape, fake.stride(), fake.storage_offset()).contiguous()
