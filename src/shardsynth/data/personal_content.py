"""What the values of a text column say: persons' names, addresses, numbers of states and insurances.

A number counts as one only if its check digit is right on nearly all values: dates, codes and measurements have none.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Callable, Sequence
from functools import lru_cache

import pyarrow as pa
import pyarrow.compute as pc

#: Fewest distinct names or numbers that are judged, and most values that are looked at.
_FEWEST, _MOST = 10, 2_000
_NEARLY_ALL = 0.95
_EMAIL = r"^[^@\s]+@[^@\s]+\.[^@\s]+$"
_IP = r"^\d{1,3}(\.\d{1,3}){3}$"
_PHONE = r"^(\+|00?)?[ (]*[0-9][0-9 ()/.-]{5,}[0-9]( ?(x|ext\.?) ?\d+)?$"
#: What looks like a telephone number and is none: numbers, days and times of day.
_NO_PHONE = re.compile(
    r"[+-]?(\d{1,3}(,\d{3})+(\.\d*)?|\d{1,3}(\.\d{3})+(,\d*)?|[1-9]\d*([.,]\d*)?|0[.,]\d+)|"
    r"\d{1,4}[./ -]\d{1,2}[./ -]\d{1,4}([ T].*)?|\d{1,2}[./-]\d{2,4}|\d+ ?- ?\d+"
)


def personal_kind(present: pa.ChunkedArray) -> tuple[str, str] | None:
    """Kind of personal values that nearly all values of a text column are.

    Args:
        present: Text without nulls.

    Returns:
        Faker function (or ``id``: a number, made in its format) and words for the reason; None where they are neither.
    """
    texts = pc.unique(present).to_pylist()[:_MOST]
    texts = [text.strip() for text in texts if text and text.strip()]
    if not texts:
        return None
    if _share(texts, lambda text: re.match(_EMAIL, text) is not None) > 0.5:
        return "email", "most values look like an e-mail address"
    if _share(texts, lambda text: re.match(_IP, text) is not None) > 0.5:
        return "ipv4", "most values look like an IP address"
    number = numbers_of_persons(texts) if len(texts) >= _FEWEST else ""
    if number:
        return "id", f"its values are {number}, by their form"
    if _share(texts, _is_phone) > 0.5:
        return "phone_number", "most values look like a telephone number"
    if len(texts) < _FEWEST:
        return None
    function = _name_kind(texts)
    return (function, "its values are persons' names") if function else None


def _share(texts: Sequence[str], test: Callable[[str], bool]) -> float:
    return sum(map(test, texts)) / len(texts)


def _is_phone(text: str) -> bool:
    digits = sum(c.isdigit() for c in re.split(r" ?(?:x|ext)", text)[0])
    if not 7 <= digits <= 15 or re.match(_PHONE, text) is None or _NO_PHONE.fullmatch(text) is not None:
        return False
    return text.startswith(("+", "0", "(")) or re.match(r"\d{3}[-. ]\d{3}[-. ]\d{4}\b", text) is not None


def numbers_of_persons(texts: Sequence[str]) -> str:
    """Words for the numbers of persons that nearly all texts are, by form or check digit; empty where they are none."""
    for what, form in _FORMS.items():
        if sum(re.fullmatch(form, text) is not None for text in texts) >= _NEARLY_ALL * len(texts):
            return what
    plain = [re.sub(r"[ ./-]", "", text) for text in texts]
    for what, (form, test) in _NUMBERS.items():
        if sum(re.fullmatch(form, text) is not None and test(text) for text in plain) >= _NEARLY_ALL * len(texts):
            return what
    return ""


def _weighted(weights: Sequence[int], modulus: int) -> Callable[[str], bool]:
    """Whether the weighted sum of all digits is a multiple of the modulus."""
    return lambda text: sum(w * int(c) for w, c in zip(weights, text)) % modulus == 0


def _luhn(text: str) -> bool:
    digits = [int(c) for c in text[::-1]]
    return sum(digits[0::2]) % 10 == -sum(sum(divmod(2 * d, 10)) for d in digits[1::2]) % 10


def _nhs(text: str) -> bool:
    check = 11 - sum(int(c) * w for c, w in zip(text, range(10, 1, -1))) % 11
    return check % 11 == int(text[9]) and check != 10


def _iban(text: str) -> bool:
    return int("".join(str(int(c, 36)) for c in text[4:] + text[:4])) % 97 == 1


def _ean(text: str) -> bool:
    return sum(int(c) * (3 if i % 2 else 1) for i, c in enumerate(text)) % 10 == 0


def _nir(text: str) -> bool:
    body = text[:13].replace("2A", "19").replace("2B", "18")
    return body.isdigit() and 97 - int(body) % 97 == int(text[13:])


def _cpf(text: str) -> bool:
    digits = [int(c) for c in text]
    first, second = (sum(w * d for w, d in zip(range(n, 1, -1), digits)) * 10 % 11 % 10 for n in (10, 11))
    return digits[9] == first and digits[10] == second


def _kvnr(text: str) -> bool:
    digits = f"{ord(text[0]) - 64:02d}{text[1:]}"
    total = sum(sum(divmod(int(c) * (1 + i % 2), 10)) for i, c in enumerate(digits[:-1]))
    return total % 10 == int(digits[-1])


def _dni(text: str) -> bool:
    number = text[:-1].replace("X", "0").replace("Y", "1").replace("Z", "2")
    return "TRWAGMYFPDXBNJZSQVHLCKE"[int(number) % 23] == text[-1]


#: Numbers of persons that their form tells, separators and all.
_FORMS = {
    "US social security numbers": r"\d{3}-\d{2}-\d{4}",
    "British insurance numbers": r"[A-Z]{2} ?\d{2} ?\d{2} ?\d{2} ?[A-D]",
    "Brazilian CPF numbers": r"\d{3}\.\d{3}\.\d{3}-\d{2}",
    "Finnish identity codes": r"\d{6}[-+A]\d{3}[0-9A-Y]",
    "Danish, Czech or Slovak birth numbers": r"[0-3]\d{5}-\d{4}|\d{6}/\d{3,4}",
}
#: Numbers of persons -> their form without separators, and their check.
_NUMBERS: dict[str, tuple[str, Callable[[str], bool]]] = {
    "NHS numbers": (r"\d{10}", _nhs),
    "German insurance numbers": (r"[A-Z]\d{9}", _kvnr),
    "Swiss AHV numbers": (r"756\d{10}", _ean),
    "French social security numbers": (r"[1-478]\d{4}[0-9AB][0-9AB]\d{8}", _nir),
    "Spanish identity numbers": (r"[XYZ\d]\d{7}[A-Z]", _dni),
    "Italian tax codes": (r"[A-Z]{6}\d{2}[A-EHLMPR-T]\d{2}[A-Z]\d{3}[A-Z]", lambda text: True),
    "Dutch citizen numbers": (r"\d{9}", _weighted((9, 8, 7, 6, 5, 4, 3, 2, -1), 11)),
    "Brazilian CPF numbers": (r"\d{11}", _cpf),
    "Polish PESEL numbers": (r"\d{11}", _weighted((1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1), 10)),
    "Swedish personal numbers": (r"(?:19|20)?\d{10}", lambda text: _luhn(text[-10:])),
    "card numbers": (r"\d{13,19}", _luhn),
    "bank accounts (IBAN)": (r"[A-Z]{2}\d{2}[A-Z0-9]{11,30}", _iban),
}
_NAME = re.compile(r"[^\W\d_]+(?:['’.-][^\W\d_]*)*(?:,? [^\W\d_]+(?:['’.-][^\W\d_]*)*){0,3}")


def _name_kind(texts: Sequence[str]) -> str:
    """``name``, ``first_name`` or ``last_name``, where the values are such by Faker's lists of all its languages."""
    if _share(texts, lambda text: _NAME.fullmatch(text) is not None and text[0].isupper()) < _NEARLY_ALL:
        return ""
    parts = [re.split(r"[ ,]+", text) for text in texts]
    first, last = _known_names()
    whole = [pieces for pieces in parts if len(pieces) > 1]
    if len(whole) >= 0.8 * len(parts):
        known = [p for p in whole if (p[0].title() in first or p[-1].title() in first) and len(p) <= 4]
        both = [p for p in known if p[-1].title() in last or p[0].title() in last]
        return "name" if len(known) >= 0.6 * len(parts) and len(both) >= 0.3 * len(parts) else ""
    shares = {
        function: sum(all(piece.title() in names for piece in pieces) for pieces in parts) / len(parts)
        for function, names in (("first_name", first), ("last_name", last))
    }
    best = max(shares, key=lambda function: shares[function])
    return best if shares[best] >= 0.8 else ""


@lru_cache(maxsize=1)
def _known_names() -> tuple[frozenset[str], frozenset[str]]:
    """First and last names of all languages of Faker."""
    import faker.providers.person as persons

    first: set[str] = set()
    last: set[str] = set()
    for module in pkgutil.iter_modules(persons.__path__):
        provider = importlib.import_module(f"faker.providers.person.{module.name}").Provider
        for name in dir(provider):
            names = getattr(provider, name)
            if name.startswith(("first_name", "last_name")) and isinstance(names, (tuple, list, dict)):
                (first if name.startswith("first") else last).update(str(entry).title() for entry in names)
    return frozenset(first), frozenset(last)
