#!/usr/bin/env python3
"""Prints the known answers for the primitives, as verify_session.py computes them.

    venv/bin/python make_vectors.py > ../../aggregation/tests/vectors/primitives.json

Inputs come from a counter under SHA-256, so the file is the same every time.
"""
import hashlib, json
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from verify_session import agree, combine, gf_mul, hkdf, labelled, public_of, stream, u16, update_digest

counter = 0


def data(n=32):
    global counter
    counter += 1
    return hashlib.sha256(counter.to_bytes(4, "big")).digest()[:n]


def element(raw):
    return int.from_bytes(raw, "little")


def gf128():
    a, b = data(16), data(16)
    return {"a": a.hex(), "b": b.hex(), "product": gf_mul(element(a), element(b)).to_bytes(16, "little").hex()}


def shamir(t, indices):
    coefficients = [[element(data(16)) for _ in range(t)] for _ in (0, 1)]
    def share(i):
        halves = []
        for polynomial in coefficients:
            value = 0
            for c in reversed(polynomial):
                value = gf_mul(value, i + 1) ^ c
            halves.append(value.to_bytes(16, "little"))
        return b"".join(halves)
    shares = {i: share(i) for i in indices}
    secret = b"".join(p[0].to_bytes(16, "little") for p in coefficients)
    assert combine(shares) == secret
    return {"shares": {str(i): s.hex() for i, s in shares.items()}, "secret": secret.hex()}


def agreement():
    a, b, dealers, participants = data(), data(), data(), data()
    shared = agree(a, public_of(b))
    nonce, plain = data(12), data() + data() + data()
    ends = participants + u16(7) + u16(2)
    sealed = AESGCM(hkdf("koinon/1/seal", shared, ends)[:16]).encrypt(nonce, plain, ends)
    return {"private": a.hex(), "public": public_of(b).hex(), "shared": shared.hex(),
            "dealers": dealers.hex(), "participants": participants.hex(), "nonce": nonce.hex(), "plain": plain.hex(),
            "pair_seed_2_7": hkdf("koinon/1/pair", shared, dealers, u16(2), u16(7)).hex(),
            "self_seed_2": hkdf("koinon/1/self", shared, dealers, u16(2)).hex(),
            "sealed_7_to_2": sealed.hex()}


def update(version, n):
    packed = bytes(i % 251 for i in range(n))
    return {"version": version, "bytes": n, "digest": update_digest(version, packed).hex()}


def masks(bits):
    seed = data()
    return {"seed": seed.hex(), "bits": bits, "words": stream(seed, bits, 9)}


def flip(hexadecimal):
    return f"{int(hexadecimal[:2], 16) ^ 1:02x}" + hexadecimal[2:]


products, secrets, seeds = [gf128() for _ in range(8)], [shamir(3, [0, 1, 2]), shamir(5, [1, 3, 4, 8, 63])], agreement()
first = next(iter(secrets[0]["shares"]))
streams = [masks(bits) for bits in (2, 17, 32, 33, 63)]
print(json.dumps({
    "gf128": products,
    "bad_gf128": [{**products[0], "product": flip(products[0]["product"])}],
    "shamir": secrets,
    "bad_shamir": [{**secrets[0], "shares": {**secrets[0]["shares"], first: flip(secrets[0]["shares"][first])}}],
    "agreement": seeds,
    "bad_agreement": {key: flip(seeds[key]) for key in ("public", "nonce", "sealed_7_to_2", "participants")},
    "bad_publics": [bytes(32).hex(), (1).to_bytes(32, "little").hex(), ((1 << 255) - 20).to_bytes(32, "little").hex()],
    "hash": [{"label": "koinon/1/plan", "parts": [b"abc".hex(), b"".hex()], "digest": labelled("koinon/1/plan", b"abc").hex()}],
    "update": [update(version, n) for version in (1, 2) for n in (0, 1, 1024, 1025, 100_000, 262_145)],
    "stream": streams,
    "bad_stream": [{**streams[1], "seed": flip(streams[1]["seed"])}],
}, indent=1))
