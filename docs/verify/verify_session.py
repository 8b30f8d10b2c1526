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
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


class Bad(Exception):
    pass


def check(holds, what):
    if not holds:
        raise Bad(what)


# Section 2 of the document: hashes, keys, fields.
def labelled(label, *parts):
    return hashlib.sha256(bytes([len(label)]) + label.encode() + b"".join(parts)).digest()


def hkdf(label, secret, *parts):
    prk = hmac.new(label.encode(), secret, hashlib.sha256).digest()
    return hmac.new(prk, b"".join(parts) + b"\x01", hashlib.sha256).digest()


def u16(number):
    return struct.pack("<H", number)


def gf_mul(a, b):
    product = 0
    while b:
        product ^= a if b & 1 else 0
        a <<= 1
        a ^= (1 << 128 | 0x87) if a >> 128 else 0
        b >>= 1
    return product


def gf_inv(a):
    result = 1
    for _ in range(127):
        result = gf_mul(gf_mul(result, result), a)
    return gf_mul(result, result)


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
    material = hkdf("koinon/1/stream", seed)
    cipher = Cipher(algorithms.AES(material[:16]), modes.CTR(material[16:]))
    lane = 4 if bits <= 32 else 8
    raw = cipher.encryptor().update(bytes(entries * lane))
    return [int.from_bytes(raw[i:i + lane], "little") % (1 << bits) for i in range(0, len(raw), lane)]


def unpack(packed, bits, entries):
    check(len(packed) == (entries * bits + 7) // 8, "length of a packed update")
    number = int.from_bytes(packed, "little")
    check(number >> (entries * bits) == 0, "filling bits of a packed update")
    return [number >> (i * bits) & ((1 << bits) - 1) for i in range(entries)]


def public_of(private):
    key = X25519PrivateKey.from_private_bytes(private).public_key()
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def agree(private, public):
    return X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(public))


# Section 3: messages.
class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        self.at += n
        check(self.at <= len(self.data), "a truncated message")
        return self.data[self.at - n:self.at]

    def number(self, code):
        return struct.unpack("<" + code, self.take(struct.calcsize("<" + code)))[0]

    def name(self):
        return self.take(self.number("B")).decode()


def read_message(data, kind, label, identity_of, body):
    """Reads head and body, checks the signature with the key `identity_of(fields)`."""
    reader = Reader(data)
    check(reader.number("I") == 1 and reader.number("B") == kind, "version or kind of " + label)
    fields = {"agreed": reader.take(32)}
    body(reader, fields)
    signed = f"koinon/1/sign/{label}".encode()
    signed = bytes([len(signed)]) + signed + data[:reader.at]
    try:
        Ed25519PublicKey.from_public_bytes(identity_of(fields)).verify(reader.take(64), signed)
    except InvalidSignature:
        raise Bad(f"signature of a {label} message")
    fields.update(body_bytes=data[:reader.at - 64], rest=data[reader.at:])
    return fields


def read_plan(data):
    reader = Reader(data)
    check(reader.number("I") == 1, "protocol version")
    plan = {"session": reader.take(32), "context": reader.take(32), "roster": reader.take(32),
            "n_min": reader.number("H"), "n_max": reader.number("I"), "w_max": reader.number("I"),
            "bits": reader.number("B"), "clip": reader.number("d") if reader.number("B") else None}
    plan["fields"] = [("weight", 1, 1.0, 0, True)]
    for _ in range(reader.number("H")):
        plan["fields"].append((reader.name(), reader.number("I"), reader.number("d"),
                               reader.number("b"), bool(reader.number("B"))))
    check(reader.at == len(data), "bytes after the plan")
    plan["entries"] = sum(field[1] for field in plan["fields"])
    return plan


def verify(record):
    unhex = lambda key: [bytes.fromhex(item) for item in record[key]]
    plan_bytes = bytes.fromhex(record["plan"])
    plan, identities = read_plan(plan_bytes), unhex("identities")
    n, bits, entries = len(identities), plan["bits"], plan["entries"]
    t = 2 * n // 3 + 1
    check(max(3, plan["n_min"]) <= n <= min(64, plan["n_max"]), "number of participants")

    def bundle(r, f):
        f.update(name=r.name(), channel=r.take(32), mask=r.take(32))
    sites = [read_message(data, 1, "bundle", lambda f, key=key: key, bundle)
             for data, key in zip(unhex("bundles"), identities, strict=True)]
    names = [site["name"] for site in sites]
    check(names == sorted(set(names)), "order of participants")
    plan_digest = labelled("koinon/1/plan", plan_bytes)
    check(all(site["agreed"] == plan_digest for site in sites), "plan of a bundle")
    rows = [bytes([len(s["name"])]) + s["name"].encode() + key + s["channel"] + s["mask"]
            for s, key in zip(sites, identities)]
    participants = labelled("koinon/1/participants", plan_digest, u16(n), *rows)

    def dealing(r, f):
        f.update(index=r.number("H"))
        check(r.number("H") == n, "number of commitments")
        f.update(nonce=r.take(12), own=r.take(32), commitments=[r.take(32) for _ in range(n)],
                 sealed=r.take(32))
    by_index = lambda f: identities[f["index"]]
    shares = {}
    for data in unhex("shares"):
        f = read_message(data, 2, "shares", by_index, dealing)
        check(f["agreed"] == participants and f["sealed"] == labelled("koinon/1/sealed", f["rest"]),
              "terms of shares")
        shares[f["index"]] = f
    check(len(shares) >= t, "number of dealers")
    set_bytes = lambda indices: struct.pack("<Q", sum(1 << i for i in indices))
    dealers = labelled("koinon/1/dealers", participants, set_bytes(shares),
                       *(labelled("koinon/1/dealing", shares[i]["body_bytes"]) for i in sorted(shares)))

    def later(kind, label, body):
        found = {}
        for data in unhex({"report": "reports", "survivors": "signatures", "reveal": "reveals"}[label]):
            f = read_message(data, kind, label, by_index, body)
            check(f["agreed"] == dealers and not f["rest"], "terms of a " + label)
            found[f["index"]] = f
        return found
    reports = later(3, "report", lambda r, f: f.update(index=r.number("H"), update=r.take(32)))
    survivors = sorted(reports)
    check(set(survivors) <= set(shares) and len(survivors) >= max(t, plan["n_min"]), "survivors")
    words = unpack(bytes.fromhex(record["masked_sum"]), bits, entries)
    if record["updates"]:
        updates = {int(i): bytes.fromhex(data) for i, data in record["updates"].items()}
        check(all(labelled("koinon/1/update", updates[i]) == reports[i]["update"] for i in survivors),
              "digest of an update")
        columns = zip(*(unpack(updates[i], bits, entries) for i in survivors))
        check(words == [sum(column) % (1 << bits) for column in columns], "sum of the masked updates")

    signatures = later(4, "survivors", lambda r, f: f.update(set=r.take(8), index=r.number("H")))
    check(all(f["set"] == set_bytes(survivors) for f in signatures.values()), "signed set")
    check(len(signatures) >= t and set(signatures) <= set(survivors), "quorum")

    def reveal(r, f):
        f.update(set=r.take(8), index=r.number("H"))
        of = r.number("Q")
        f["shown"] = {d: (r.take(32), r.take(16), r.take(32)) for d in range(64) if of >> d & 1}
    held = {dealer: {} for dealer in shares}
    for i, f in later(5, "reveal", reveal).items():
        check(f["set"] == set_bytes(survivors), "set of a reveal")
        for dealer, (share, salt, sibling) in f["shown"].items():
            kind = 0 if dealer in survivors else 1
            leaves = [sibling, sibling]
            leaves[kind] = labelled("koinon/1/share", participants, u16(dealer), u16(i), bytes([kind]),
                                    salt, share)
            if labelled("koinon/1/commitment", *leaves) == shares[dealer]["commitments"][i]:
                held[dealer][i] = share

    for dealer, good in held.items():
        check(len(good) >= t, f"shares of {names[dealer]}")
        secret = combine(dict(sorted(good.items())[:t]))
        if dealer in survivors:
            own = labelled("koinon/1/self-secret", participants, u16(dealer), secret)
            check(own == shares[dealer]["own"], f"self-mask secret of {names[dealer]}")
            masks = [(1, hkdf("koinon/1/self", secret, dealers, u16(dealer)))]
        else:
            check(public_of(secret) == sites[dealer]["mask"], f"mask key of {names[dealer]}")
            masks = [(1 if s < dealer else -1,
                      hkdf("koinon/1/pair", agree(secret, sites[s]["mask"]), dealers,
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
