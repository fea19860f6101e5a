"""An authorization server on loopback: idpyoidc with its own endpoints, for RFC 8693 by somebody else than us.

Reads its configuration from standard input as JSON, and writes `{"port": …}` to standard output when it listens. It ends
when standard input does. `GET /counts` gives what each endpoint was asked for.
"""

import json
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from cryptojwt.key_jar import build_keyjar
from idpyoidc.message.oauth2 import ResponseMessage
from idpyoidc.server import Server
from idpyoidc.server.configure import ASConfiguration
from idpyoidc.server.user_authn.user import UserAuthnMethod
from idpyoidc.time_util import utc_time_sans_frac

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
CODE = "authorization_code"
SIGNING = [{"type": "RSA", "use": ["sig"]}, {"type": "EC", "crv": "P-256", "use": ["sig"]}]
ENCRYPTING = {
    "kwargs": {"keys": {"key_defs": [{"type": "OCT", "use": ["enc"], "kid": kid} for kid in ("password", "salt")]}}
}

# The library keeps its sessions in memory and is not thread-safe; the HTTP server has a thread for each open connection.
LOCK = threading.Lock()


class Named(UserAuthnMethod):
    """Whoever signs in is whom `login_hint` names: there is no password in a test."""

    def authenticated_as(self, client_id, cookie=None, authorization="", **kwargs):
        return {"uid": authorization}, utc_time_sans_frac()


def configuration(issuer, given):
    def endpoint(path, name, **kwargs):
        return {"path": path, "class": f"idpyoidc.server.oauth2.{name}", "kwargs": kwargs}

    token_handler = {
        "class": "idpyoidc.server.token.jwt_token.JWTToken",
        "kwargs": {"lifetime": 3600, "alg": given["signs"]},
    }
    return {
        "issuer": issuer,
        "httpc_params": {"verify": True, "timeout": 1},
        "preference": {"subject_types_supported": ["public"], "scopes_supported": given["scopes"]},
        "keys": {"uri_path": "jwks.json", "key_defs": SIGNING},
        "cookie_handler": {
            "class": "idpyoidc.server.cookie_handler.CookieHandler",
            "kwargs": {"keys": {"key_defs": [{"type": "OCT", "use": [use], "kid": use} for use in ("enc", "sig")]}},
        },
        "endpoint": {
            "provider_info": endpoint(".well-known/oauth-authorization-server", "server_metadata.ServerMetadata"),
            "authorization": endpoint("authorization", "authorization.Authorization", response_types_supported=["code"]),
            "token": endpoint(
                "token",
                "token.Token",
                request_format="urlencoded",
                client_authn_method=["client_secret_basic", "client_secret_post", "private_key_jwt"],
                grant_types_helpers={
                    CODE: {"class": "idpyoidc.server.oauth2.token_helper.access_token.AccessTokenHelper"},
                    EXCHANGE: {
                        "class": "idpyoidc.server.oauth2.token_helper.token_exchange.TokenExchangeHelper",
                        "kwargs": {
                            "subject_token_types_supported": [ACCESS_TOKEN],
                            "requested_token_types_supported": [ACCESS_TOKEN],
                            "policy": {
                                "": {
                                    "function": "idpyoidc.server.oauth2.token_helper.validate_token_exchange_policy",
                                    "kwargs": {"audience": given["audiences"]},
                                }
                            },
                        },
                    },
                },
            ),
        },
        "authentication": {"named": {"acr": "urn:example:named", "class": Named, "kwargs": {}}},
        "authz": {
            "class": "idpyoidc.server.authz.AuthzHandling",
            "kwargs": {
                "grant_config": {
                    "usage_rules": {
                        CODE: {"supports_minting": ["access_token"], "max_usage": 1, "expires_in": 120},
                        "access_token": {"supports_minting": ["access_token"], "expires_in": 3600},
                    },
                    "expires_in": 43200,
                }
            },
        },
        "token_handler_args": {"code": {"lifetime": 600, "kwargs": {"crypt_conf": ENCRYPTING}}, "token": token_handler},
        "userinfo": {"class": "idpyoidc.server.user_info.UserInfo", "kwargs": {"db": {}}},
        "session_params": {"encrypter": ENCRYPTING},
        "template_dir": "templates",
    }


def authorization_server(issuer, given, folder):
    server = Server(ASConfiguration(conf=configuration(issuer, given), base_path=folder), cwd=folder)
    for client_id, client in given["clients"].items():
        registered = {
            "client_secret": client.get("secret"),
            "client_authn_method": [client["method"]],
            "redirect_uris": [(uri, None) for uri in client.get("redirect_uris", [])],
            "response_types_supported": ["code"],
            "grant_types_supported": client["grant_types"],
            "allowed_scopes": given["scopes"],
        }
        server.context.cdb[client_id] = registered
        if "jwks" in client:
            server.keyjar.import_jwks(client["jwks"], client_id)
    return server


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        url = urlsplit(self.path)
        if url.path == "/counts":
            return self.answer(200, json.dumps(self.server.counts))
        if url.path == "/jwks.json":
            self.count("keys")
            return self.answer(200, json.dumps(self.server.idp.keyjar.export_jwks()))
        if url.path == "/.well-known/oauth-authorization-server":
            return self.serve("server_metadata", "", "discovery")
        if url.path == "/authorization":
            return self.serve("authorization", url.query, "authorization")
        return self.answer(404, "{}")

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
        if urlsplit(self.path).path != "/token":
            return self.answer(404, "{}")
        return self.serve("token", body, "exchange" if "token-exchange" in body else "token")

    def serve(self, name, request, counter):
        with LOCK:
            self.serve_alone(name, request, counter)

    def serve_alone(self, name, request, counter):
        self.count(counter)
        endpoint = self.server.idp.get_endpoint(name)
        http_info = {"headers": {key.lower(): value for key, value in self.headers.items()}, "method": self.command}
        try:
            parsed = endpoint.parse_request(request, http_info=http_info)
            if isinstance(parsed, ResponseMessage) and "error" in parsed:
                return self.answer(400, parsed.to_json())
            more = {"authn": parsed["login_hint"]} if name == "authorization" else {}
            made = endpoint.process_request(parsed, http_info=http_info, **more)
            if isinstance(made, ResponseMessage) and "error" in made:
                return self.answer(400, made.to_json())
            if name == "authorization":
                return self.redirect(made["response_args"].request(made["return_uri"]))
            done = endpoint.do_response(request=parsed, **made)
            return self.answer(200, done["response"])
        except Exception as error:  # What the library throws for a client that does not prove itself.
            sys.stderr.write(f"{name}: {type(error).__name__}: {error}\n")
            return self.answer(401, json.dumps({"error": "invalid_client"}))

    def count(self, what):
        self.server.counts[what] = self.server.counts.get(what, 0) + 1

    def redirect(self, location):
        self.send_response(302)
        self.send_header("location", location)
        self.send_header("content-length", "0")
        self.end_headers()

    def answer(self, status, text):
        body = text.encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def main():
    given = json.loads(sys.stdin.readline())
    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.counts = {}
    with tempfile.TemporaryDirectory() as folder:
        http.idp = authorization_server(f"http://127.0.0.1:{http.server_port}", given, folder)
        threading.Thread(target=lambda: (sys.stdin.read(), http.shutdown()), daemon=True).start()
        print(json.dumps({"port": http.server_port}), flush=True)
        http.serve_forever()


main()
