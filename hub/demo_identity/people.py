"""Who can log in without an account anywhere."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass

ORGANIZATION = "example"
DOMAIN = "example.com"  #: RFC 2606 reserves it for examples
COLOURS = ("#1f5fbf", "#1b7f5c", "#8a4b9e", "#a3541c")


@dataclass(frozen=True)
class Person:
    """Somebody of the demo."""

    login: str
    name: str
    number: int
    note: str
    belongs: bool = True  #: to the organization and the domain that the hub lets in
    teams: tuple[str, ...] = ()  #: of the organization

    @property
    def mail(self) -> str:
        """An address of the domain."""
        return f"{self.login}@{DOMAIN}"

    @property
    def subject(self) -> str:
        """The number, as Google and ID tokens write it."""
        return str(self.number)

    @property
    def picture(self) -> str:
        """The initials in a circle, in the URL itself: the pages of the hub load no picture from another origin by http."""
        initials = "".join(word[0] for word in self.name.split())
        drawing = (
            '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 40 40">'
            f'<circle cx="20" cy="20" r="20" fill="{COLOURS[self.number % len(COLOURS)]}"/>'
            '<text x="20" y="26" font-family="sans-serif" font-size="16" fill="#fff" text-anchor="middle">'
            f"{initials}</text></svg>"
        )
        return f"data:image/svg+xml;base64,{b64encode(drawing.encode()).decode()}"

    def is_member(self, organization: str, team: str = "") -> bool:
        """Whether the person is in the organization, or in that team of it."""
        return self.belongs and organization == ORGANIZATION and (not team or team in self.teams)


PEOPLE = (
    Person("ada", "Ada Lovelace", 1001, "administrator, with GitHub", teams=("engineers", "owners")),
    Person("grace", "Grace Hopper", 1002, "analyst", teams=("analysts",)),
    Person("mallory", "Mallory", 1003, "belongs nowhere; the hub refuses her", belongs=False),
)


def find_person(login: str) -> Person | None:
    """The person with that login; as at GitHub, case does not count."""
    return next((person for person in PEOPLE if person.login == login.lower()), None)
