"""What whoever hands the data on says of it: its title, its licence, its authors and whom to ask. It changes no row."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

# Licences for data by their SPDX identifiers, https://spdx.org/licenses. Any other is named by its address.
LICENCES = {
    "CC0-1.0": "https://creativecommons.org/publicdomain/zero/1.0/",
    "CC-BY-4.0": "https://creativecommons.org/licenses/by/4.0/",
    "CC-BY-SA-4.0": "https://creativecommons.org/licenses/by-sa/4.0/",
    "CC-BY-NC-4.0": "https://creativecommons.org/licenses/by-nc/4.0/",
    "CC-BY-NC-SA-4.0": "https://creativecommons.org/licenses/by-nc-sa/4.0/",
    "CC-BY-ND-4.0": "https://creativecommons.org/licenses/by-nd/4.0/",
    "CC-BY-NC-ND-4.0": "https://creativecommons.org/licenses/by-nc-nd/4.0/",
    "ODC-By-1.0": "https://opendatacommons.org/licenses/by/1-0/",
    "ODbL-1.0": "https://opendatacommons.org/licenses/odbl/1-0/",
    "PDDL-1.0": "https://opendatacommons.org/licenses/pddl/1-0/",
}

NO_LICENCE = "no licence given: ask before passing it on"

_LINE = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029]{1,200}")
_URL = re.compile(r"https://[!-~]+")
_MAIL = re.compile(r"[^\s@<>]+@[^\s@<>]+")


class Dataset(NamedTuple):
    """The group `dataset` of params.yaml, and what stands for it in commits that do not have it yet."""

    title: str = "Behavioural events"
    licence: str | None = None  # a name in LICENCES, or an address
    authors: tuple[str, ...] = ()  # "Family, Given" is a person, anything else an organisation
    contact: str | None = None  # an e-mail address or another one

    @property
    def licence_url(self) -> str | None:
        return LICENCES.get(self.licence, self.licence) if self.licence else None

    @property
    def slug(self) -> str:
        """The title in letters that file names and all standards take."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-") or "dataset"

    @property
    def licence_words(self) -> str:
        if self.licence is None:
            return NO_LICENCE
        return f"{self.licence} ({self.licence_url})" if self.licence in LICENCES else self.licence


def of_params(data: Mapping[str, Any]) -> Dataset:
    """The values of the group, which hold nothing that `problem` finds."""
    return Dataset(data["title"], data["licence"], tuple(data["authors"]), data["contact"])


def problem(data: Mapping[str, Any]) -> tuple[str, Any, str] | None:
    """The first key of the group that can't be meant, what it holds, and what it may hold."""
    title, licence, authors, contact = (data[name] for name in Dataset._fields)
    if not _is(_LINE, title):
        return "title", title, "a line of text"
    if licence is not None and licence not in LICENCES and not _is(_URL, licence):
        return "licence", licence, f"null, one of {', '.join(LICENCES)}, or the https:// address of another"
    if not isinstance(authors, list) or not all(_is(_LINE, one) and one.strip() for one in authors):
        return "authors", authors, "a list of names: Family, Given for a person, any other for an organisation"
    if contact is not None and not _is(_MAIL, contact) and not _is(_URL, contact):
        return "contact", contact, "null, an e-mail address or an https:// address"
    return None


def _is(form: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and form.fullmatch(value) is not None and bool(value.strip())
