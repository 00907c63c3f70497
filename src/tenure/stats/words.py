"""How one transcript differs from another: words substituted, deleted, inserted (Levenshtein 1966).

Words are what whitespace separates after Unicode NFKC. Unless told otherwise case does not count (casefold),
nor does punctuation: signs are dropped, but an apostrophe or hyphen inside a word stays ("don't" is one word).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Literal

import msgspec

Change = Literal["same", "substituted", "deleted", "inserted"]
_INNER = {"'": "'", "\u2019": "'", "-": "-", "\u2010": "-", "\u2011": "-"}


class Step(msgspec.Struct, frozen=True):
    """One column of an alignment; `reference` or `said` is None where that side has no word."""

    change: Change
    reference: str | None
    said: str | None


class WordErrors(msgspec.Struct, frozen=True):
    """Counts of a shortest way from the reference to what was said; `words` are those of the reference."""

    substituted: int
    deleted: int
    inserted: int
    words: int

    @property
    def count(self) -> int:
        """All errors: the Levenshtein distance in words."""
        return self.substituted + self.deleted + self.inserted

    @property
    def rate(self) -> float | None:
        """Word error rate: errors over reference words, above 1 at times; None without reference words."""
        return self.count / self.words if self.words else None

    @property
    def share(self) -> float:
        """Errors over the columns of the alignment, in [0, 1]; 0 for two empty texts: a bounded loss."""
        columns = self.words + self.inserted
        return self.count / columns if columns else 0.0


def errors(reference: str, said: str, *, case: bool = False, punctuation: bool = False) -> WordErrors:
    """Count the word errors of `said` against `reference`.

    Args:
        reference: the transcript that counts as right.
        said: the one compared with it.
        case: whether upper and lower case differ.
        punctuation: whether punctuation counts.

    Example:
        >>> errors("The cat sat.", "the hat sat down")
        WordErrors(substituted=1, deleted=0, inserted=1, words=3)
    """
    return counted(align(reference, said, case=case, punctuation=punctuation))


def counted(steps: Sequence[Step]) -> WordErrors:
    """Count the changes of an alignment."""
    kinds = [step.change for step in steps]
    substituted, deleted, inserted = (kinds.count(k) for k in ("substituted", "deleted", "inserted"))
    return WordErrors(substituted, deleted, inserted, len(kinds) - inserted)


def align(reference: str, said: str, *, case: bool = False, punctuation: bool = False) -> tuple[Step, ...]:
    """Return a shortest alignment of the normalised words, left to right.

    Of several shortest ones it prefers, from the end backwards, a pair of words to a deletion and a deletion
    to an insertion. Takes len(reference) x len(said) steps in words.
    """
    a = normalised(reference, case=case, punctuation=punctuation)
    b = normalised(said, case=case, punctuation=punctuation)
    start, end = _common(a, b), 0
    while end < min(len(a), len(b)) - start and a[-1 - end] == b[-1 - end]:
        end += 1
    middle = _steps(a[start : len(a) - end], b[start : len(b) - end])
    head, tail = a[:start], a[len(a) - end :]
    return (*(Step("same", w, w) for w in head), *middle, *(Step("same", w, w) for w in tail))


def normalised(text: str, *, case: bool = False, punctuation: bool = False) -> list[str]:
    """Return the words that are compared."""
    text = unicodedata.normalize("NFKC", text)
    words = (text if case else text.casefold()).split()
    kept = words if punctuation else [_bare(word) for word in words]
    return [word for word in kept if word]


def _bare(word: str) -> str:
    signs = [unicodedata.category(c)[0] in "PS" for c in word]
    if not any(signs):
        return word
    inside = range(1, len(word) - 1)
    kept = (
        _INNER.get(c, c) if not signs[i] else _INNER[c]
        for i, c in enumerate(word)
        if not signs[i] or (c in _INNER and i in inside and not signs[i - 1] and not signs[i + 1])
    )
    return "".join(kept)


def _common(a: Sequence[str], b: Sequence[str]) -> int:
    for i, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return i
    return min(len(a), len(b))


def _steps(a: Sequence[str], b: Sequence[str]) -> list[Step]:
    costs = _costs(a, b)
    i, j, steps = len(a), len(b), list[Step]()
    while i or j:
        if i and j and costs[i][j] == costs[i - 1][j - 1] + (a[i - 1] != b[j - 1]):
            i, j = i - 1, j - 1
            steps.append(Step("same" if a[i] == b[j] else "substituted", a[i], b[j]))
        elif i and costs[i][j] == costs[i - 1][j] + 1:
            i -= 1
            steps.append(Step("deleted", a[i], None))
        else:
            j -= 1
            steps.append(Step("inserted", None, b[j]))
    return steps[::-1]


def _costs(a: Sequence[str], b: Sequence[str]) -> list[list[int]]:
    rows = [list(range(len(b) + 1))]
    for i, word in enumerate(a, 1):
        above, row = rows[-1], [i]
        for j, other in enumerate(b, 1):
            row.append(min(above[j - 1] + (word != other), above[j] + 1, row[j - 1] + 1))
        rows.append(row)
    return rows
