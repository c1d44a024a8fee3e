"""Where results were measured.

Authors
* speechbrain_lact contributors 2026
"""

import os
import platform
import subprocess


def about():
    """Machine, versions and commit of a measurement.

    Returns
    -------
    dict

    Example
    -------
    >>> sorted(about())
    ['commit', 'machine', 'python', 'threads', 'torch']
    """
    import torch  # not before it is needed: others measure their memory

    git = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True).stdout.strip()
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "commit": commit,
    }
