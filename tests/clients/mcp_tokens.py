"""Makes a key and a token for each tenant: `strong` ones are short-lived, for one audience, with tenant and scope; `weak`
ones name no audience and no tenant and live for a month. Writes the public key to FILE, prints the tokens as JSON."""

import json
import sys
import time

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

kind, file = sys.argv[1:]
key = Ed25519PrivateKey.generate()
public = key.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)
open(file, "wb").write(public)
now = int(time.time())
tokens = {}
for tenant in ("acme", "globex"):
    claims = {"iss": "https://login.lab.example", "sub": f"agent@{tenant}", "iat": now - 5}
    if kind == "strong":
        claims |= {"aud": "https://orders.lab.example", "tid": tenant, "scope": "orders:read", "exp": now + 600}
    else:
        claims |= {"exp": now + 30 * 86400}
    tokens[tenant] = jwt.encode(claims, key, algorithm="EdDSA")
print(json.dumps(tokens))
