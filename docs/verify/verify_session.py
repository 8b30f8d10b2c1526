#!/usr/bin/env python3
"""Opens a recorded Koinon session once more, from docs/protocol.md alone, and prints the sum.

    python3 -m venv venv && venv/bin/pip install cryptography
    venv/bin/python verify_session.py session.json

Checks every signature, commitment and digest of the record, puts the secrets together from the
revealed shares, takes the masks off, and compares with the recorded sum. Trusts nothing but the
identity keys in the record: compare those with the roster. Exits 0 if all holds, 1 if not.
"""
import hashlib, hmac, json, struct, sys
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

class Bad(Exception): pass

def check(holds, what):
    if not holds:
        raise Bad(what)

def labelled(label, *parts):
    return hashlib.sha256(bytes([len(label)]) + label.encode() + b"".join(parts)).digest()

def hkdf(label, secret, *parts):
    prk = hmac.digest(label.encode(), secret, "sha256")
    return hmac.digest(prk, b"".join(parts) + b"\x01", "sha256")

def u16(number): return struct.pack("<H", number)

def gf_mul(a, b):
    product = 0
    while b:
        product ^= a if b & 1 else 0
        a <<= 1
        a ^= (1 << 128 | 0x87) if a >> 128 else 0
        b >>= 1
    return product

def gf_inv(a, bit=127):  # a^(2^128 - 2)
    square = gf_mul(a, a)
    return square if bit == 1 else gf_mul(square, gf_inv(square, bit - 1))

def combine(shares):
    """The 32-byte secret of {index: 32-byte share}."""
    secret = [0, 0]
    for i, share in shares.items():
        weight = 1
        for j in shares:
            if j != i:
                weight = gf_mul(weight, gf_mul(j + 1, gf_inv((j + 1) ^ (i + 1))))
        for half in (0, 1):
            element = int.from_bytes(share[16 * half:16 * half + 16], "little")
            secret[half] ^= gf_mul(weight, element)
    return b"".join(element.to_bytes(16, "little") for element in secret)

def stream(seed, bits, entries):
    material, lane = hkdf("koinon/1/stream", seed), 4 if bits <= 32 else 8
    cipher = Cipher(algorithms.AES(material[:16]), modes.CTR(material[16:]))
    raw = cipher.encryptor().update(bytes(entries * lane))
    return [int.from_bytes(raw[i:i + lane], "little") % (1 << bits) for i in range(0, len(raw), lane)]

def unpack(packed, bits, entries):
    check(len(packed) == (entries * bits + 7) // 8, "length of a packed update")
    number = int.from_bytes(packed, "little")
    check(number >> (entries * bits) == 0, "filling bits of a packed update")
    return [number >> (i * bits) & ((1 << bits) - 1) for i in range(entries)]

def public_of(private): return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()

def agree(private, public):
    return X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(public))

class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        self.at += n
        check(self.at <= len(self.data), "a truncated message")
        return self.data[self.at - n:self.at]

    def number(self, code):
        return struct.unpack("<" + code, self.take(struct.calcsize("<" + code)))[0]

    def name(self): return self.take(self.number("B")).decode()

def read_plan(data):
    r = Reader(data)
    check(r.number("I") == 1, "protocol version")
    r.take(96)  # session, context, roster: nothing but digests
    plan = {"n_min": r.number("H"), "n_max": r.number("I"), "w_max": r.number("I"), "bits": r.number("B"),
            "clip": r.number("d") if r.number("B") else None, "fields": [("weight", 1, 1.0, 0, 1)]}
    for _ in range(r.number("H")):
        plan["fields"].append((r.name(), r.number("I"), r.number("d"), r.number("b"), r.number("B")))
    check(r.at == len(data), "bytes after the plan")
    return plan

def messages(items, kind, label, agreed, key_of, read_body):
    """The messages of one kind as dictionaries, their heads and signatures checked."""
    for data in map(bytes.fromhex, items):
        r, f = Reader(data), {}
        check(r.number("I") == 1 and r.number("B") == kind, "version or kind of a " + label)
        check(r.take(32) == agreed, "terms of a " + label)
        read_body(r, f)
        f["body"] = data[:r.at]
        domain = f"koinon/1/sign/{label}".encode()
        try:
            key = Ed25519PublicKey.from_public_bytes(key_of(f))
            key.verify(r.take(64), bytes([len(domain)]) + domain + f["body"])
        except InvalidSignature:
            raise Bad("signature of a " + label)
        f["rest"] = data[r.at:]
        check(label == "shares" or not f["rest"], "bytes after a " + label)
        yield f

def verify(record):
    plan_bytes, identities = bytes.fromhex(record["plan"]), list(map(bytes.fromhex, record["identities"]))
    plan, n = read_plan(plan_bytes), len(identities)
    bits, entries, t = plan["bits"], sum(field[1] for field in plan["fields"]), 2 * n // 3 + 1
    check(max(3, plan["n_min"]) <= n <= min(64, plan["n_max"]), "number of participants")

    keys = iter(identities)
    agreed = labelled("koinon/1/plan", plan_bytes)
    sites = list(messages(record["bundles"], 1, "bundle", agreed, lambda f: next(keys), lambda r, f: f.update(
        name=r.name(), channel=r.take(32), mask=r.take(32))))
    names = [site["name"] for site in sites]
    check(len(names) == n and names == sorted(set(names)), "order of participants")
    rows = (bytes([len(s["name"])]) + s["name"].encode() + key + s["channel"] + s["mask"]
            for s, key in zip(sites, identities))
    participants = labelled("koinon/1/participants", agreed, u16(n), *rows)

    by_index = lambda f: identities[f["index"]]
    indexed = lambda *arguments: {f["index"]: f for f in messages(*arguments)}
    def read_dealing(r, f):
        f["index"] = r.number("H")
        check(r.number("H") == n, "number of commitments")
        f.update(nonce=r.take(12), own=r.take(32), to=[r.take(32) for _ in range(n)], sealed=r.take(32))
    shares = indexed(record["shares"], 2, "shares", participants, by_index, read_dealing)
    check(all(f["sealed"] == labelled("koinon/1/sealed", f["rest"]) for f in shares.values()), "sealed shares")
    set_bytes = lambda indices: struct.pack("<Q", sum(1 << i for i in indices))
    dealers = labelled("koinon/1/dealers", participants, set_bytes(shares),
                       *(labelled("koinon/1/dealing", shares[i]["body"]) for i in sorted(shares)))

    reports = indexed(record["reports"], 3, "report", dealers, by_index, lambda r, f: f.update(
        index=r.number("H"), update=r.take(32)))
    survivors = sorted(reports)
    check(set(survivors) <= set(shares) and len(survivors) >= max(t, plan["n_min"]), "survivors")
    words = unpack(bytes.fromhex(record["masked_sum"]), bits, entries)
    if record["updates"]:
        updates = {int(i): bytes.fromhex(data) for i, data in record["updates"].items()}
        check(all(labelled("koinon/1/update", updates[i]) == reports[i]["update"] for i in survivors),
              "digest of an update")
        columns = zip(*(unpack(updates[i], bits, entries) for i in survivors))
        check(words == [sum(column) % (1 << bits) for column in columns], "sum of the masked updates")

    signatures = indexed(record["signatures"], 4, "survivors", dealers, by_index, lambda r, f: f.update(
        set=r.take(8), index=r.number("H")))
    check(len(signatures) >= t and set(signatures) <= set(survivors), "quorum")
    def read_reveal(r, f):
        f.update(set=r.take(8), index=r.number("H"), of=r.number("Q"))
        f["shown"] = {d: (r.take(32), r.take(16), r.take(32)) for d in range(64) if f["of"] >> d & 1}
    reveals = indexed(record["reveals"], 5, "reveal", dealers, by_index, read_reveal)
    check(all(f["set"] == set_bytes(survivors) for f in [*signatures.values(), *reveals.values()]), "signed set")

    for dealer, dealing in sorted(shares.items()):
        kind, held = 0 if dealer in survivors else 1, {}
        for i in sorted(set(reveals) & set(survivors)):
            share, salt, sibling = reveals[i]["shown"].get(dealer, (b"", b"", b""))
            leaf = labelled("koinon/1/share", participants, u16(dealer), u16(i), bytes([kind]), salt, share)
            pair = (leaf, sibling) if kind == 0 else (sibling, leaf)
            if labelled("koinon/1/commitment", *pair) == dealing["to"][i]:
                held[i] = share
        check(len(held) >= t, f"shares of {names[dealer]}")
        secret = combine(dict(list(held.items())[:t]))
        if kind == 0:
            own = labelled("koinon/1/self-secret", participants, u16(dealer), secret)
            check(own == dealing["own"], f"self-mask secret of {names[dealer]}")
            masks = [(1, hkdf("koinon/1/self", secret, dealers, u16(dealer)))]
        else:
            check(public_of(secret) == sites[dealer]["mask"], f"mask key of {names[dealer]}")
            masks = [(1 if s < dealer else -1, hkdf("koinon/1/pair", agree(secret, sites[s]["mask"]), dealers,
                                                    u16(min(s, dealer)), u16(max(s, dealer)))) for s in survivors]
        for sign, seed in masks:
            words = [w - sign * m for w, m in zip(words, stream(seed, bits, entries))]
    half = 1 << (bits - 1)
    values = [(w + half) % (1 << bits) - half for w in words]
    check(values == record["sum"], "the recorded sum")
    return plan, [names[i] for i in survivors], values

if __name__ == "__main__":
    try:
        plan, survivors, values = verify(json.load(open(sys.argv[1])))
    except Bad as what:
        sys.exit(f"the record does not hold: {what}")
    print(f"sum over {len(survivors)} sites: {', '.join(survivors)}")
    for name, length, _, frac_bits, _ in plan["fields"]:
        entries, values = values[:length], values[length:]
        print(f"{name}: {[entry / 2.0 ** frac_bits for entry in entries]}")
