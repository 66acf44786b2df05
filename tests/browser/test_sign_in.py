"""Signing in, where an operator asks for it, against a real OpenID provider."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect
from streamlit import config
from streamlit.runtime.secrets import Secrets
from streamlit.web.server.starlette.starlette_app_utils import create_signed_value

from cnnvis_core.errors import InputError
from cnnvis_core.models import catalogue
from cnnvis_core.ui import sign_in
from tests.browser.conftest import ROOT, serve
from tests.browser.visit import nothing_broke, settled

pytest.importorskip("authlib", reason="Authlib is not installed; see requirements-sign-in.txt")
pytest.importorskip("httpx", reason="httpx is not installed; see requirements-sign-in.txt")

from tests.browser.identity import CLIENT, MAIL, NAME, SECRET, Provider, identity_provider

KEY = "0123456789abcdef0123456789abcdef"
SENTENCE = "Only those who have signed in may use cnnvis on this server."
NOT_RIGHT = "This server is not set up rightly"
NAMES = sorted(path.stem for path in (ROOT / "pages").glob("*.py"))
# Streamlit's own words, the icon's name, and what is there until one has signed in.
HARMLESS = {"Skip to main content", "Stop", "login", "Sign in", SENTENCE}
COOKIE = "_streamlit_user"
# Notes every text that is ever drawn, however briefly.
WATCH = """
window.drawn = [];
new MutationObserver(() => {
  const app = document.querySelector('[data-testid=stApp]');
  if (app) window.drawn.push(app.innerText);
}).observe(document, {subtree: true, childList: true, characterData: true});
"""


def own(provider: str) -> str:
    return f"""client_id = "{CLIENT}"
client_secret = "{SECRET}"
server_metadata_url = "{provider}/.well-known/openid-configuration"
"""


SHARED = f"""[auth]
redirect_uri = "http://localhost:{{port}}/oauth2callback"
cookie_secret = "{KEY}"
"""


@contextmanager
def guarded(folder: Path, secrets: str, demand: str = "0") -> Iterator[str]:
    """Serve with such secrets, which lie outside of the repository."""
    file = folder / "secrets.toml"
    file.write_text(secrets)
    environment = {"STREAMLIT_SECRETS_FILES": str(file), "CNNVIS_SIGN_IN": demand}
    with serve(folder, environment=environment) as server:
        yield server.url


def only(page: Page, *words: str) -> None:
    """Nothing is drawn but this."""
    expect(page.get_by_text(words[0])).to_be_visible()
    settled(page)
    pattern = r"\s*".join(["", *map(re.escape, words), ""])
    expect(page.locator("[data-testid=stMain]")).to_have_text(re.compile(f"^{pattern}$"))
    expect(page.locator("[data-testid=stSidebar]")).to_have_count(0)
    nothing_broke(page)


def closed(page: Page) -> None:
    only(page, SENTENCE, "login", "Sign in")


def drawn(page: Page) -> set[str]:
    """Every line that was drawn since the page was opened."""
    return {line for text in page.evaluate("window.drawn") for line in text.split("\n") if line}


def enter(page: Page, button: str = "Sign in") -> None:
    page.get_by_role("button", name=button).click()
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    expect(page.get_by_text(SENTENCE)).to_have_count(0)


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with identity_provider() as running:
        yield running


@pytest.fixture(scope="module")
def closed_server(tmp_path_factory, provider) -> Iterator[tuple[str, Path]]:
    folder = tmp_path_factory.mktemp("closed")
    with guarded(folder, SHARED + own(provider.url), "1") as url:
        yield url, folder / "server.log"


def test_no_deep_link_shows_anything_before_one_has_signed_in(closed_server, visitor):
    url, _ = closed_server
    page = visitor()
    page.add_init_script(WATCH)
    received: list[bytes] = []
    page.on("websocket", lambda socket: socket.on("framereceived", note(received)))
    # Until the router has run once, Streamlit lists the files of pages/ in a menu.
    page.goto(f"{url}/occlude")
    closed(page)
    assert drawn(page) - HARMLESS <= {"app", *(name.replace("_", " ") for name in NAMES)}
    for name in ["", "start", *NAMES, "occlude?sample-image=Cat&score=Logit", "nowhere"]:
        page.goto(f"{url}/{name}")
        closed(page)
        assert SENTENCE in drawn(page)
        assert drawn(page) <= HARMLESS | {"Page not found"}, name
    sent = b"".join(received)
    assert SENTENCE.encode() in sent
    for card in catalogue():
        assert card.title.encode() not in sent


def note(received: list[bytes]) -> Any:
    return lambda data: received.append(data if isinstance(data, bytes) else data.encode())


def test_one_signs_in_and_out_again(closed_server, provider, visitor):
    url, log = closed_server
    page, other = visitor(), visitor()
    page.goto(f"{url}/kernels")
    provider.asked.clear()
    enter(page)
    assert {"/authorize", "/token", "/jwks"} <= set(provider.asked)
    expect(page.get_by_role("heading", name="cnnvis")).to_be_visible()
    page.goto(f"{url}/kernels")
    expect(page.get_by_role("heading", name="32 kernels of stem.0")).to_be_visible()
    expect(page.locator("[data-testid=stSidebarNavLink]")).to_have_count(1 + len(NAMES))
    settled(page)
    # What one visitor may see says nothing of another.
    other.goto(f"{url}/kernels")
    closed(other)
    page.get_by_role("button", name="Sign out").click()
    closed(page)
    assert "/end" in provider.asked
    assert COOKIE not in {cookie["name"] for cookie in page.context.cookies()}
    page.goto(f"{url}/kernels")
    closed(page)
    nothing_broke(page)
    written = log.read_text()
    assert not [word for word in (NAME, MAIL, SECRET, KEY) if word in written]


def test_a_forged_cookie_opens_nothing(closed_server, visitor):
    url, _ = closed_server
    text = json.dumps({"origin": url, "is_logged_in": True, "provider": "default", "sub": "17"})

    def try_cookie(value: str) -> Page:
        page = visitor()
        page.context.add_cookies([{"name": COOKIE, "value": value, "url": url}])
        page.goto(f"{url}/models")
        return page

    true = create_signed_value(KEY, COOKIE, text).decode()
    # The same cookie with the server's own secret would do: it is the secret that matters.
    expect(try_cookie(true).get_by_role("button", name="Sign out")).to_be_visible()
    middle = len(true) // 3
    changed = true[:middle] + ("A" if true[middle] != "A" else "B") + true[middle + 1 :]
    others = (
        create_signed_value(KEY[::-1], COOKIE, text).decode(),
        create_signed_value(KEY, "another_cookie", text).decode(),
        create_signed_value(KEY, COOKIE, text.replace(url, "http://example.org")).decode(),
        create_signed_value(KEY, COOKIE, text.replace("true", '"yes"')).decode(),
        changed,
        quote(text),
        "chunks-2",
    )
    for value in others:
        closed(try_cookie(value))


def test_a_token_that_the_provider_did_not_sign_opens_nothing(closed_server, provider, visitor):
    url, _ = closed_server
    page = visitor()
    page.goto(f"{url}/models")
    provider.forges = True
    try:
        provider.asked.clear()
        with page.expect_response(re.compile(r"/oauth2callback\?")):
            page.get_by_role("button", name="Sign in").click()
        closed(page)
    finally:
        provider.forges = False
    assert "/token" in provider.asked
    page.goto(f"{url}/models")
    closed(page)


def test_each_provider_has_a_button(tmp_path, provider, visitor):
    secrets = f"{SHARED}[auth.north]\n{own(provider.url)}[auth.south]\n{own(provider.url)}"
    with guarded(tmp_path, secrets) as url:
        page = visitor()
        page.goto(f"{url}/models")
        north, south = "Sign in with North", "Sign in with South"
        only(page, SENTENCE, "login", north, "login", south)
        enter(page, south)
        nothing_broke(page)


def test_a_server_that_cannot_tell_who_may_enter_serves_nobody(tmp_path, visitor):
    with guarded(tmp_path, "[database]\nname = 'x'\n", demand="1") as url:
        page = visitor()
        for name in ("occlude", ""):
            page.goto(f"{url}/{name}")
            expect(page.get_by_text(NOT_RIGHT)).to_be_visible()
            expect(page.get_by_text("CNNVIS_SIGN_IN is 1, but the secrets have no")).to_be_visible()
            settled(page)
            expect(
                page.locator("[data-testid=stMain] [data-testid=stElementContainer]")
            ).to_have_count(1)
            expect(page.locator("[data-testid=stSidebar]")).to_have_count(0)


# What is said of the secrets, without a server.

GOOD = {
    "redirect_uri": "https://example.org/oauth2callback",
    "cookie_secret": KEY,
    **dict.fromkeys(sign_in.OWN, "x"),
}
PART = dict.fromkeys(sign_in.OWN, "x")


def without(*names: str) -> dict[str, Any]:
    return {name: value for name, value in GOOD.items() if name not in names}


def test_providers_are_found_in_the_section():
    named = without(*sign_in.OWN)
    assert sign_in.providers_in(GOOD) == ("default",)
    assert sign_in.providers_in(GOOD | {"client_kwargs": {"scope": "openid"}}) == ("default",)
    assert sign_in.providers_in(named | {"a": PART, "b": PART}) == ("a", "b")
    assert sign_in.providers_in(GOOD | {"b": PART}) == ("default", "b")
    assert sign_in.providers_in(named | {"default": PART}) == ("default",)


@pytest.mark.parametrize(
    ("auth", "said"),
    [
        ({}, "lacks redirect_uri, cookie_secret"),
        ("yes", "must be a section"),
        (without("cookie_secret"), "lacks cookie_secret"),
        (GOOD | {"redirect_uri": "https://example.org"}, "oauth2callback"),
        (GOOD | {"cookie_secret": "short"}, "32 characters"),
        (without(*sign_in.OWN), "names no provider"),
        (without("client_secret"), r"\[auth\] in the secrets lacks client_secret"),
        (GOOD | {"b": {"client_id": "x"}}, r"\[auth.b\] in the secrets lacks client_secret"),
        (GOOD | {"my_own": PART}, "without an underscore"),
    ],
)
def test_what_is_missing_in_the_section_is_said(auth, said):
    with pytest.raises(InputError, match=said):
        sign_in.providers_in(auth)


@pytest.fixture
def secrets_file(tmp_path, monkeypatch) -> Iterator[Path]:
    """Where this process looks for secrets; nothing is there yet."""
    file = tmp_path / "secrets.toml"
    before = config.get_option("secrets.files")
    config.set_option("secrets.files", [str(file)])
    monkeypatch.setattr(sign_in.st, "secrets", Secrets())
    monkeypatch.delenv("CNNVIS_SIGN_IN", raising=False)
    sign_in.providers.cache_clear()
    yield file
    config.set_option("secrets.files", before)
    sign_in.providers.cache_clear()


def test_without_secrets_nobody_has_to_sign_in(secrets_file):
    assert sign_in.providers() == ()
    assert sign_in.admitted()


def test_with_secrets_that_cannot_be_read_nobody_gets_in(secrets_file):
    secrets_file.write_text("[auth\n")
    with pytest.raises(InputError, match="The secrets cannot be read"):
        sign_in.providers()
    assert not sign_in.admitted()


def test_without_authlib_nobody_gets_in(secrets_file, monkeypatch):
    secrets_file.write_text(SHARED + own("http://localhost"))
    monkeypatch.setattr(sign_in, "NEEDED", ("authlib", "a_library_that_is_not_there"))
    with pytest.raises(InputError, match=r"requirements-sign-in\.txt"):
        sign_in.providers()
    assert not sign_in.admitted()
