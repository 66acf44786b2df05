"""Signing in, where the operator asks for it: until then nothing of the app is drawn.

Streamlit speaks OpenID Connect itself; here is only who may see the app. Without an ``[auth]``
section in the secrets nobody has to sign in.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache, partial
from importlib.util import find_spec
from typing import Any, NoReturn

import streamlit as st
from streamlit.errors import StreamlitSecretNotFoundError

from cnnvis_core.errors import InputError
from cnnvis_core.limits import limits

DEFAULT = "default"  # Streamlit's name of a provider that stands in [auth] itself
SHARED = ("redirect_uri", "cookie_secret")
OWN = ("client_id", "client_secret", "server_metadata_url")
CALLBACK = "/oauth2callback"
LEAST_SECRET = 32  # characters; whoever guesses the secret can sign in as anybody
NEEDED = ("authlib", "httpx")


def providers_in(auth: object) -> tuple[str, ...]:
    """Names of the providers of an ``[auth]`` section, checked before anyone relies on it.

    Raises
    ------
    InputError
        If something is missing in it.
    """
    if not isinstance(auth, Mapping):
        raise InputError("[auth] in the secrets must be a section.")
    _demand_all("[auth]", auth, SHARED)
    if not str(auth["redirect_uri"]).endswith(CALLBACK):
        raise InputError(f"redirect_uri in [auth] must be the app's address and {CALLBACK}.")
    if len(str(auth["cookie_secret"])) < LEAST_SECRET:
        raise InputError(
            f"cookie_secret in [auth] must be random and have {LEAST_SECRET} characters or more."
        )
    sections = {
        name: part
        for name, part in auth.items()
        if isinstance(part, Mapping) and name != "client_kwargs"
    }
    if any(name in auth for name in OWN):
        sections = {DEFAULT: auth, **sections}
    if not sections:
        raise InputError(f"[auth] in the secrets names no provider; it lacks {', '.join(OWN)}.")
    for name, part in sections.items():
        if "_" in name:
            raise InputError(f"[auth.{name}] must have a name without an underscore.")
        _demand_all("[auth]" if name == DEFAULT else f"[auth.{name}]", part, OWN)
    return tuple(sections)


def _demand_all(where: str, section: Mapping[str, Any], names: tuple[str, ...]) -> None:
    missing = [name for name in names if not section.get(name)]
    if missing:
        raise InputError(f"{where} in the secrets lacks {', '.join(missing)}.")


@lru_cache(maxsize=1)
def providers() -> tuple[str, ...]:
    """Names of the providers that one can sign in with, read once; none where nobody has to.

    Raises
    ------
    InputError
        If signing in is asked for and cannot be had: then nobody may get in.
    """
    asked = limits().sign_in
    try:
        auth = st.secrets.to_dict().get("auth")
    except StreamlitSecretNotFoundError as error:
        # Streamlit takes secrets that it cannot read for none, which would leave the door open.
        if error.error_id != "no-secrets-found":
            raise InputError("The secrets cannot be read; the log says why.") from error
        auth = None
    except (OSError, ValueError) as error:
        raise InputError("The secrets cannot be read; the log says why.") from error
    if auth is None:
        if asked:
            raise InputError("CNNVIS_SIGN_IN is 1, but the secrets have no section [auth].")
        return ()
    names = providers_in(auth)
    if any(find_spec(name) is None for name in NEEDED):
        raise InputError("Signing in needs Authlib; run `pip install -r requirements-sign-in.txt`.")
    return names


def admitted() -> bool:
    """Whether this visitor may see the app."""
    try:
        return not providers() or st.user.get("is_logged_in") is True
    except InputError:
        return False


def draw_sign_in() -> NoReturn:
    """Draw the way in for one who may not see the app yet, and nothing else."""
    try:
        names = providers()
    except InputError as error:
        st.error(f"This server is not set up rightly: {error}", icon=":material/settings:")
        st.stop()
    st.markdown("Only those who have signed in may use cnnvis on this server.")
    for name in names:
        one = len(names) == 1 or name == DEFAULT
        st.button(
            "Sign in" if one else f"Sign in with {name.capitalize()}",
            type="primary",
            icon=":material/login:",
            key=f"sign-in-{name}",
            on_click=partial(st.login, None if name == DEFAULT else name),
        )
    st.stop()


def draw_sign_out() -> None:
    """Draw the way out in the sidebar; nothing where nobody had to sign in."""
    if providers():
        st.sidebar.button(
            "Sign out", icon=":material/logout:", key="sign-out", on_click=st.logout,
            width="stretch",
        )  # fmt: skip
