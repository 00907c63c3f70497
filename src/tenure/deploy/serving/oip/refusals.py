"""Refusals of a whole request: its tensors are not those of the model."""

from __future__ import annotations

from tenure.deploy.serving.oip.tensors import Tensor
from tenure.errors import CaseError


def wrong(text: str, *, at: str = "inputs") -> CaseError:
    """Return a 400."""
    return CaseError(text, code="invalid_body", at=at, status=400)


def wrong_datatype(model: str, tensor: Tensor, expected: str) -> CaseError:
    """Return the 400 of a tensor with another datatype."""
    return wrong(
        f"inference input {tensor.name!r} data-type is {tensor.datatype!r}, model {model!r} expects {expected}",
        at=tensor.name,
    )


def wrong_shape(model: str, tensor: Tensor, expected: str) -> CaseError:
    """Return the 400 of a tensor with another shape."""
    got = ",".join(str(n) for n in tensor.shape)
    return wrong(
        f"unexpected shape for input {tensor.name!r} for model {model!r}: expected {expected}, got [{got}]",
        at=tensor.name,
    )
