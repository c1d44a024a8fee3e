#!/usr/bin/env bash
# All that a GPU is needed for, in order of worth, in calls of under ten minutes
# each; with half an hour, stop when it is over. Results go to
# benchmarks/results, what was printed to results/gpu_day.
# usage: benchmarks/gpu_day.sh [--dry-run] [STEP ...]
# A step alone: benchmarks/gpu_day.sh kernels. --dry-run runs each step at a tiny
# size on the CPU, the kernels under Triton's interpreter.
set -uo pipefail
exec </dev/null
cd "$(dirname "$0")/.."
export PYTHONPATH="$PWD:$PWD/kernels${PYTHONPATH:+:$PYTHONPATH}"

dry=
if [ "${1:-}" = --dry-run ]; then
    dry=1
    shift
fi
logs=results/gpu_day
mkdir -p "$logs"
limit=590
failed=()

call() { # name, command ...
    local name=$1
    shift
    echo "+ $*"
    timeout "$limit" "$@" 2>&1 | tee "$logs/$name.log" | tail -n 40
    [ "${PIPESTATUS[0]}" = 0 ] || failed+=("$name")
}

kernels() { # every kernel in every type, and the law's row `backend`
    if [ -n "$dry" ]; then
        call kernels python -m pytest -n 0 -q tests/kernels -k "31 or backend"
    else
        call kernels python -m pytest -n 0 -q tests/kernels --device=cuda
    fi
}

operations() { # each kernel against torch, eager and compiled
    local script=benchmarks/kernels.py out=benchmarks/results/kernels
    if [ -n "$dry" ]; then
        call operations python "$script" --dry-run
        return
    fi
    call operations_bf16 python "$script" --compiled --products bfloat16 \
        --out "${out}_bf16.json"
    call operations_fp32 python "$script" --products float32 \
        --out "${out}_fp32.json"
}

encoders() { # LaCT and SpeechBrain's Conformers, forward and training step
    local script=benchmarks/encoder_scaling.py
    if [ -n "$dry" ]; then
        call encoders python "$script" --seconds 1 --repeat 1 --rounds 1 \
            --name gpu_day_dry_run
        rm -f benchmarks/results/gpu_day_dry_run.*
        return
    fi
    local backend
    for backend in torch triton compile; do
        call "encoders_$backend" python "$script" --device cuda \
            --backend "$backend" --seconds 10 30 60 --repeat 10 \
            --rounds 1 --name "encoder_scaling_cuda_$backend"
    done
}

suite() { # the whole test-suite on the device, in parts
    if [ -n "$dry" ]; then
        call suite python -m pytest -n 0 -q tests/unittests/test_fast_weight.py \
            -k "zero"
        return
    fi
    call suite_unit python -m pytest -q tests/unittests --device=cuda \
        -m "not slow" --ignore tests/unittests/test_law.py
    call suite_law python -m pytest -q tests/unittests/test_law.py --device=cuda
    call suite_integration python -m pytest -q tests/integration --device=cuda
}

training() { # the recipe: it goes on where a call was stopped
    local script=recipes/LibriSpeech/train.py yaml=hparams/lact_ctc.yaml
    if [ -n "$dry" ]; then
        call training python "$script" "$yaml" --help
        return
    fi
    local part
    for part in 1 2; do
        call "training_$part" python "$script" "$yaml" --device=cuda \
            --precision=bf16 --size=full --lact_backend=triton \
            --output_folder="$logs/lact_ctc"
    done
}

steps=("$@")
[ ${#steps[@]} -gt 0 ] || steps=(kernels operations encoders suite training)
for step in "${steps[@]}"; do
    "$step"
done
if [ ${#failed[@]} -gt 0 ]; then
    printf 'failed, or out of time: %s\n' "${failed[@]}"
    exit 1
fi
echo "all of it: ${steps[*]}"
