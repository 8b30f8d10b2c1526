#!/usr/bin/env python3
"""Opens a recorded Koinon session once more, from docs/protocol.md alone, and prints the sum.

    python3 -m venv venv && venv/bin/pip install cryptography blake3
    venv/bin/python verify_session.py session.json

BLAKE3 is for the masked updates in records of version 2; all others are read without it.

Checks every signature, commitment and digest of the record, puts the secrets together from the
revealed shares, takes the masks off, and compares with the recorded sum. Trusts nothing but the
identity keys in the record: compare those with the roster. Exits 0 if all holds, 1 if not.
"""
import hashlib, hmac, json, struct, sys
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
try:
    from blake3 import blake3
except ImportError:
    blake3 = None

class Bad(Exception): pass

def check(holds, what):
    if not holds:
        raise Bad(what)

def labelled(label, *parts):
    return hashlib.sha256(bytes([len(label)]) + label.encode() + b"".join(parts)).digest()

def hkdf(label, secret, *parts):
    prk = hmac.digest(label.encode(), secret, "sha256")
    return hmac.digest(prk, b"".join(parts) + b"\x01", "sha256")

def root(leaves):  # RFC 9162, section 2.1
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\x01" + root(leaves[:split]) + root(leaves[split:])).digest()

def update_digest(version, packed):
    if version == 1:
        return labelled("koinon/1/update", packed)
    check(blake3 is not None, "updates of version 2 need BLAKE3: pip install blake3")
    return blake3(packed, derive_key_context="koinon/2/update").digest()

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

def key_stream(seed, length):
    material = hkdf("koinon/1/stream", seed)
    return Cipher(algorithms.AES(material[:16]), modes.CTR(material[16:])).encryptor().update(bytes(length))

def order(seed, n):
    words = (word for word, in struct.iter_unpack("<I", key_stream(seed, 8 * n + 4096)))
    places = list(range(n))
    for i in range(n - 1, 0, -1):
        m = next(words) * (i + 1)
        while m % 2**32 < 2**32 % (i + 1):
            m = next(words) * (i + 1)
        places[i], places[m >> 32] = places[m >> 32], places[i]
    return places

def neighbours(seed, n, degree):
    """Of each participant, ascending."""
    ring = order(seed, n)
    if degree == n - 1:
        return [[j for j in range(n) if j != i] for i in range(n)]
    around = [step for half in range(1, degree // 2 + 1) for step in (half, -half)]
    return [sorted(ring[(ring.index(i) + step) % n] for step in around) for i in range(n)]

def stream(seed, bits, entries):
    lane = 4 if bits <= 32 else 8
    raw = key_stream(seed, entries * lane)
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
    version = r.number("I")
    check(version in (1, 2), "protocol version")
    r.take(96)  # session, context, roster: nothing but digests
    plan = {"version": version, "n_min": r.number("H")}
    if version == 2:
        plan.update({part: r.number("H") for part in ("degree", "threshold", "committee", "quorum")})
        r.take(4)  # what these are good for: whoever took part has checked
    plan.update(n_max=r.number("I"), w_max=r.number("I"), bits=r.number("B"), fields=[("weight", 1, 1.0, 0, 1)])
    has = r.number("B")
    plan.update(clip=r.number("d") if has & 1 else None, noise=16 * r.number("Q") if has & 2 else None)
    for _ in range(r.number("H")):
        plan["fields"].append((r.name(), r.number("I"), r.number("d"), r.number("b"), r.number("B")))
    check(r.at == len(data), "bytes after the plan")
    return plan

def messages(version, items, kind, label, agreed, key_of, read_body):
    """The messages of one kind as dictionaries, their heads and signatures checked."""
    for data in map(bytes.fromhex, items):
        r, f = Reader(data), {}
        check(r.number("I") == version and r.number("B") == kind, "version or kind of a " + label)
        check(r.take(32) == agreed, "terms of a " + label)
        read_body(r, f)
        f["body"] = data[:r.at]
        domain = f"koinon/{version}/sign/{label}".encode()
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
    v, bits, entries = plan["version"], plan["bits"], sum(field[1] for field in plan["fields"])
    check(max(3, plan["n_min"]) <= n <= min(64 if v == 1 else 16384, plan["n_max"]), "number of participants")
    named = lambda label: f"koinon/{v}/{label}"

    keys = iter(identities)
    agreed = labelled(named("plan"), plan_bytes)
    sites = list(messages(v, record["bundles"], 1, "bundle", agreed, lambda f: next(keys), lambda r, f: f.update(
        name=r.name(), channel=r.take(32), mask=r.take(32))))
    names = [site["name"] for site in sites]
    check(len(names) == n and names == sorted(set(names)), "order of participants")
    firsts = [bytes([len(name)]) + name.encode() + key for name, key in zip(names, identities)]
    rows = [first + s["channel"] + s["mask"] for s, first in zip(sites, firsts)]
    if v == 1:
        participants = labelled("koinon/1/participants", agreed, u16(n), *rows)
        holders, signers, t = [list(range(n))] * n, set(range(n)), 2 * n // 3 + 1
        quorum = t
    else:
        leaves = [labelled("koinon/2/participant", row) for row in rows]
        participants = labelled("koinon/2/participants", agreed, u16(n), labelled("koinon/2/names", *firsts),
                                root(leaves))
        holders = neighbours(labelled("koinon/2/graph", participants), n, plan["degree"])
        signers = set(order(labelled("koinon/2/committee", participants), n)[:plan["committee"]])
        t, quorum = plan["threshold"], plan["quorum"]

    by_index = lambda f: identities[f["index"]]
    indexed = lambda *arguments: {f["index"]: f for f in messages(v, *arguments)}
    def read_dealing(r, f):
        f["index"] = r.number("H")
        k = len(holders[f["index"]])
        check(r.number("H") == k, "number of commitments")
        f.update(nonce=r.take(12 if v == 1 else 16), own=r.take(32))
        f.update(to=[r.take(32) for _ in range(k)] if v == 1 else r.take(32), sealed=r.take(32))
    shares = indexed(record["shares"], 2, "shares", participants, by_index, read_dealing)
    for f in shares.values():
        if v == 2:
            k = len(holders[f["index"]])
            leaves = [f["rest"][32 * place:32 * place + 32] for place in range(k)]
            check(root(leaves) == f["to"], "root of the commitments")
            f.update(to=leaves, rest=f["rest"][32 * k:])
            check(len(f["rest"]) == 64 * k, "number of sealed shares")
        check(f["sealed"] == labelled(named("sealed"), f["rest"]), "sealed shares")
    set_bytes = lambda indices: struct.pack("<Q", sum(1 << i for i in indices))
    dealt = {i: labelled(named("dealing"), f["body"]) for i, f in shares.items()}
    dealers = participants if v == 2 else labelled(
        "koinon/1/dealers", participants, set_bytes(shares), *(dealt[i] for i in sorted(dealt)))

    reports = indexed(record["reports"], 3, "report", dealers, by_index, lambda r, f: f.update(
        index=r.number("H"), update=r.take(32)))
    survivors = sorted(reports)
    check(set(survivors) <= set(shares) and len(survivors) >= max(t, plan["n_min"]), "survivors")
    words = unpack(bytes.fromhex(record["masked_sum"]), bits, entries)
    if record["updates"]:
        updates = {int(i): bytes.fromhex(data) for i, data in record["updates"].items()}
        check(all(update_digest(v, updates[i]) == reports[i]["update"] for i in survivors),
              "digest of an update")
        columns = zip(*(unpack(updates[i], bits, entries) for i in survivors))
        check(words == [sum(column) % (1 << bits) for column in columns], "sum of the masked updates")

    bitmap = sum(1 << i for i in survivors).to_bytes((n + 7) // 8, "little")
    set_name = set_bytes(survivors) if v == 1 else labelled("koinon/2/survivors", participants, bitmap)
    signatures = indexed(record["signatures"], 4, "survivors", dealers, by_index, lambda r, f: f.update(
        set=r.take(len(set_name)), index=r.number("H")))
    check(len(signatures) >= quorum and set(signatures) <= set(survivors) & signers, "quorum")
    def read_reveal(r, f):
        f.update(set=r.take(len(set_name)), index=r.number("H"))
        k = 64 if v == 1 else r.number("H")
        of = int.from_bytes(r.take((k + 7) // 8), "little")
        check(v == 1 or k == len(holders[f["index"]]), "neighbours of a reveal")
        check(of >> len(holders[f["index"]]) == 0, "dealers shown")
        parts = (32, 16, 32) if v == 1 else (32,)
        f["shown"] = {dealer: [r.take(length) for length in parts]
                      for place, dealer in enumerate(holders[f["index"]]) if of >> place & 1}
    reveals = indexed(record["reveals"], 5, "reveal", dealers, by_index, read_reveal)
    check(all(f["set"] == set_name for f in [*signatures.values(), *reveals.values()]), "signed set")

    for dealer, dealing in sorted(shares.items()):
        kind, held = 0 if dealer in survivors else 1, {}
        for place, i in enumerate(holders[dealer]):
            if i not in reveals or i not in survivors or dealer not in reveals[i]["shown"]:
                continue
            share, *proof = reveals[i]["shown"][dealer]
            bound = (participants, u16(dealer), u16(i), bytes([kind]))
            if v == 1:
                salt, sibling = proof
                leaf = labelled("koinon/1/share", *bound, salt, share)
                pair = (leaf, sibling) if kind == 0 else (sibling, leaf)
                good = labelled("koinon/1/commitment", *pair) == dealing["to"][place]
            else:
                leaf = labelled("koinon/2/share", *bound, share)[:16]
                good = leaf == dealing["to"][place][16 * kind:16 * kind + 16]
            if good:
                held[place] = share
        check(len(held) >= t, f"shares of {names[dealer]}")
        secret = combine(dict(list(held.items())[:t]))
        terms = lambda *ends: [dealers] if v == 1 else [participants, *(dealt[end] for end in ends)]
        if kind == 0:
            own = labelled(named("self-secret"), participants, u16(dealer), secret)
            check(own == dealing["own"], f"self-mask secret of {names[dealer]}")
            masks = [(1, hkdf(named("self"), secret, *terms(dealer), u16(dealer)))]
        else:
            check(public_of(secret) == sites[dealer]["mask"], f"mask key of {names[dealer]}")
            masks = []
            for s in set(survivors) & set(holders[dealer]):
                low, high = min(s, dealer), max(s, dealer)
                shared = agree(secret, sites[s]["mask"])
                seed = hkdf(named("pair"), shared, *terms(low, high), u16(low), u16(high))
                masks.append((1 if s < dealer else -1, seed))
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
