"""Koinon's engine beside ONNX Runtime and PyTorch: one core, the same networks, in turns.

    python3 benches/peers/peers.py --koinon target/release/koinon

The first run installs pinned packages from PyPI into a virtual environment (several GB: PyTorch comes
with its GPU libraries). Each round measures CPU time of ours and of the other one after another; what
is printed is the middle of the rounds' ratios. Further ONNX files may be named; an axis without a
length is the batch.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
import venv
from pathlib import Path

PINNED = ["numpy==2.4.6", "onnx==1.22.0", "onnxruntime==1.31.1", "torch==2.15.0"]
HERE = Path(__file__).resolve().parent


def environment(folder):
    """The Python of a virtual environment with the pinned packages."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *PINNED], check=True)
    return python


def middle(work, seconds):
    """The middle CPU time of a piece of work, in microseconds."""
    work()
    times, end = [], time.perf_counter() + seconds
    while len(times) < 5 or time.perf_counter() < end:
        start = time.process_time_ns()
        work()
        times.append((time.process_time_ns() - start) / 1e3)
    return statistics.median(times)


def infer(file, batch, seconds):
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    given = {}
    for port in session.get_inputs():
        shape = [side if isinstance(side, int) else batch for side in port.shape]
        places = np.arange(np.prod(shape)).reshape(shape)
        whole = "int64" in port.type
        given[port.name] = places * 31 % 1000 if whole else (places % 13 * 0.1 - 0.5).astype(np.float32)
    return middle(lambda: session.run(None, given), seconds)


def train(network, batch, seconds):
    import torch
    from torch import nn

    torch.set_num_threads(1)
    if network == "cnn":
        first = [nn.Conv2d(1, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)]
        second = [nn.Conv2d(32, 64, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)]
        last = [nn.Flatten(), nn.Linear(3136, 512), nn.ReLU(), nn.Linear(512, 10)]
        model, x = nn.Sequential(*first, *second, *last), torch.rand(320, 1, 28, 28)
    else:
        layers = [nn.Linear(784, 200), nn.ReLU(), nn.Linear(200, 200), nn.ReLU(), nn.Linear(200, 10)]
        model, x = nn.Sequential(*layers), torch.rand(4000, 784)
    y, rows = torch.arange(len(x)) % 10, len(x)
    optimizer, loss = torch.optim.SGD(model.parameters(), lr=0.01), nn.CrossEntropyLoss()

    def epoch():
        order = torch.randperm(rows)
        for start in range(0, rows, batch):
            picked = order[start : start + batch]
            optimizer.zero_grad()
            loss(model(x[picked]), y[picked]).backward()
            optimizer.step()

    return middle(epoch, seconds) / rows


def one(kind, name, batch, seconds):
    """What a child does: one figure of a peer."""
    print((infer if kind == "infer" else train)(name, int(batch), float(seconds)))


def run(command, core):
    limits = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    pin = lambda: os.sched_setaffinity(0, {core})
    return subprocess.run(
        [str(part) for part in command], check=True, capture_output=True, text=True,
        env=os.environ | limits, preexec_fn=pin,
    ).stdout


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--koinon", required=True, help="the program, built with --release")
    parser.add_argument("--env", type=Path, default=HERE / ".venv", help="the virtual environment")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="for each figure of a round")
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)))
    parser.add_argument("--format", choices=["text", "json"], default="text")
    parser.add_argument("files", nargs="*", help="further ONNX files")
    arguments = parser.parse_args()
    python, folder = environment(arguments.env), arguments.env / "networks"
    if not folder.exists():
        folder.mkdir()
        subprocess.run([python, HERE / "networks.py", folder], check=True)
    files = [folder / f"{name}.onnx" for name in ["cnn", "mobile", "transformer"]] + arguments.files
    cases = [("infer", str(file), batch, f"infer_{Path(file).stem}_b{batch}") for file in files for batch in [1, 32]]
    cases += [("train", n, b, f"train_{n}_b{b}_row") for n, b in [("cnn", 10), ("cnn", 32), ("2nn", 10)]]
    limits = {"infer_cnn_b1": 1.05, "infer_cnn_b32": 1.05, "train_cnn_b10_row": 0.65,
              "train_cnn_b32_row": 0.65, "train_2nn_b10_row": 0.30}
    ratios = {name: [] for *_, name in cases}
    for _ in range(arguments.rounds):
        trained = json.loads(run([arguments.koinon, "bench", "engine", "--train", "--format", "json",
                                  "--seconds", arguments.seconds], arguments.core))
        trained = {figure["name"]: figure["value"] for figure in trained}
        for kind, what, batch, name in cases:
            if kind == "infer":
                ours = json.loads(run([arguments.koinon, "bench", "engine", what, "--batch", batch, "--format",
                                       "json", "--seconds", arguments.seconds], arguments.core))[0]["value"]
            else:
                ours = trained[name]
            peer = float(run([python, __file__, "--one", kind, what, batch, arguments.seconds], arguments.core))
            ratios[name].append(peer / ours if kind == "infer" else ours / peer)
    figures = []
    for name, all_of_it in ratios.items():
        infers = name.startswith("infer")
        unit = "x ONNX Runtime's speed" if infers else "of PyTorch's CPU time"
        limit = limits.get(name, 0.8)
        figures.append({"name": name, "value": round(statistics.median(all_of_it), 3), "unit": unit, "limit": limit})
    if arguments.format == "json":
        print(json.dumps(figures, indent=1))
        return
    for figure in figures:
        bound = "at least" if figure["name"].startswith("infer") else "at most"
        print("{name:24} {value:7.3f} {unit} ({0} {limit})".format(bound, **figure))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        one(*sys.argv[2:6])
    else:
        main()
