"""What a program that uses the package may rely on: all that belongs to the
process stays as it was.

Authors
* speechbrain_lact contributors 2026
"""

import json
import subprocess
import sys

import numpy as np
import torch

from speechbrain_lact.processing.diarization.cluster import cluster

IMPORT = """
import json, locale, logging, os, pkgutil, random, signal, socket, sys
import threading, warnings
import matplotlib, numpy, torch
# What they do is not ours.
import speechbrain.inference, transformers

def seen():
    levels = {
        name: log.level
        for name, log in logging.root.manager.loggerDict.items()
        if isinstance(log, logging.Logger) and "lact" not in name
    }
    return {
        "numpy": numpy.random.get_state()[1].tolist(),
        "python": random.getstate()[1],
        "torch": torch.get_rng_state().tolist(),
        "threads": torch.get_num_threads(),
        "type": str(torch.get_default_dtype()),
        "gradients": torch.is_grad_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "precision": torch.get_float32_matmul_precision(),
        "tf32": torch.backends.cudnn.allow_tf32,
        "warnings": list(map(str, warnings.filters)),
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "path": list(vars(sys)["path"]),
        "timeout": socket.getdefaulttimeout(),
        "handlers": len(logging.root.handlers),
        "level": logging.root.level,
        "levels": levels,
        "backend": matplotlib.rcParams._get("backend") is not None,
        "signals": [str(signal.getsignal(s)) for s in (2, 13, 15)],
        "hook": sys.excepthook is sys.__excepthook__,
        "threads alive": threading.active_count(),
        "locale": locale.setlocale(locale.LC_ALL),
    }

before, changed = seen(), {}
import speechbrain_lact

for module in pkgutil.walk_packages(
    speechbrain_lact.__path__, "speechbrain_lact."
):
    if module.name.split(".")[-1] == "__main__":
        continue
    __import__(module.name)
    after = seen()
    # Libraries may be imported first here, with loggers of their own.
    known = after["levels"].items()
    after["levels"] = {k: v for k, v in known if k in before["levels"]}
    for name in before:
        if before[name] != after[name] and name not in changed:
            changed[name] = module.name
print(json.dumps([changed, len(sys.modules)]))
"""


def test_importing_every_module_changes_nothing_of_the_process():
    done = subprocess.run(
        [sys.executable, "-c", IMPORT], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    changed, _ = json.loads(done.stdout.splitlines()[-1])
    assert changed == {}


def test_clustering_draws_from_no_generator_of_others():
    draw = torch.Generator().manual_seed(0)
    voices = torch.randn(12, 6, generator=draw)
    voices = torch.nn.functional.normalize(voices, dim=1)
    found = []
    for seed in (1, 2):
        np.random.seed(seed)
        before = np.random.get_state()[1].tolist()
        found.append(cluster(voices, torch.ones(12), 0.5, number=3))
        assert np.random.get_state()[1].tolist() == before
    assert torch.equal(*found)
