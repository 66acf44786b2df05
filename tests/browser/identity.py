"""An OpenID provider on this machine, for one user who always agrees."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT, SECRET = "cnnvis-test", "known to the provider and to the app"
NAME, MAIL = "Anna Exemplar", "anna@example.org"


@dataclass
class Provider:
    """A running provider.

    Attributes
    ----------
    url : str
        Its address.
    asked : list of str
        Paths that were asked for, in order.
    forges : bool
        Whether it signs with a key that it does not publish.
    """

    url: str
    asked: list[str] = field(default_factory=list)
    forges: bool = False
    key: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "published"}))
    other: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "published"}))
    codes: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def metadata_url(self) -> str:
        return f"{self.url}/.well-known/openid-configuration"

    def metadata(self) -> dict[str, Any]:
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/jwks",
            "end_session_endpoint": f"{self.url}/end",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "code_challenge_methods_supported": ["S256"],
        }

    def authorize(self, asked: dict[str, str]) -> str:
        """Where the browser goes on to, with a code."""
        code = secrets.token_urlsafe()
        self.codes[code] = asked
        answer = urlencode({"code": code, "state": asked["state"]})
        return f"{asked['redirect_uri']}?{answer}"

    def token(self, given: dict[str, str], credentials: str) -> dict[str, Any] | None:
        """Tokens for a code, once, and to nobody else than who asked for it."""
        asked = self.codes.pop(given.get("code", ""), None)
        if asked is None or credentials != f"{CLIENT}:{SECRET}":
            return None
        proof = hashlib.sha256(given.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(proof).rstrip(b"=").decode()
        same = given.get("redirect_uri") == asked["redirect_uri"]
        if challenge != asked.get("code_challenge") or not same:
            return None
        now = int(time.time())
        claims = {
            **{"iss": self.url, "aud": CLIENT, "sub": "17", "iat": now, "exp": now + 300},
            **{"nonce": asked["nonce"], "name": NAME, "email": MAIL},
        }
        key = self.other if self.forges else self.key
        signed = jwt.encode({"alg": "RS256", "kid": "published"}, claims, key)
        return {"access_token": secrets.token_urlsafe(), "token_type": "Bearer", "id_token": signed}


@contextlib.contextmanager
def identity_provider() -> Iterator[Provider]:
    """Run a provider for as long as the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            place = urlsplit(self.path)
            provider.asked.append(place.path)
            asked = {name: values[0] for name, values in parse_qs(place.query).items()}
            if place.path == "/.well-known/openid-configuration":
                self.answer(provider.metadata())
            elif place.path == "/jwks":
                self.answer({"keys": [provider.key.as_dict(private=False)]})
            elif place.path == "/authorize" and asked.get("client_id") == CLIENT:
                self.redirect(provider.authorize(asked))
            elif place.path == "/end":
                self.redirect(asked["post_logout_redirect_uri"])
            else:
                self.send_error(404)

        def do_POST(self) -> None:
            provider.asked.append(self.path)
            text = self.rfile.read(int(self.headers["Content-Length"])).decode()
            given = {name: values[0] for name, values in parse_qs(text).items()}
            _, _, encoded = self.headers.get("Authorization", "").partition(" ")
            tokens = provider.token(given, base64.b64decode(encoded).decode())
            if self.path == "/token" and tokens is not None:
                self.answer(tokens)
            else:
                self.send_error(400)

        def answer(self, content: dict[str, Any]) -> None:
            data = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def redirect(self, where: str) -> None:
            self.send_response(302)
            self.send_header("Location", where)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    provider = Provider(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
