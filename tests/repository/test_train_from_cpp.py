"""The C++ program that trains from an exported step takes the steps of Python."""

import shutil
import subprocess

import numpy as np
import pytest
import torch
from helpers.compare import same_number
from helpers.examples import EXAMPLES

import lincoln_fn as lf

pytest.importorskip("onnx")
pytest.importorskip("sklearn")

FOLDER = EXAMPLES / "train_from_cpp"
STEPS = 10


def flags_of_onnxruntime():
    """Give the compiler's options for ONNX Runtime, or skip where a part is missing."""
    for program in ("g++", "pkg-config"):
        if shutil.which(program) is None:
            pytest.skip(f"needs {program}")
    asked = ["pkg-config", "--cflags", "--libs", "libonnxruntime"]
    ran = subprocess.run(asked, capture_output=True, text=True, check=False)
    if ran.returncode:
        pytest.skip("needs ONNX Runtime's headers, such as Debian's libonnxruntime-dev")
    return ran.stdout.split()


@pytest.mark.full
def test_ten_steps_in_cpp_are_ten_steps_in_python(tmp_path, monkeypatch):
    flags = flags_of_onnxruntime()
    monkeypatch.syspath_prepend(str(FOLDER))
    import write_files

    write_files.main([str(tmp_path)])
    program = str(tmp_path / "train")
    command = ["g++", "-std=c++17", str(FOLDER / "train.cpp"), "-o", program, *flags]
    subprocess.run(command, check=True, timeout=120)
    ran = subprocess.run(
        [program, str(tmp_path), str(STEPS)], check=True, capture_output=True, text=True, timeout=60
    )
    (images, labels), (step, state) = write_files.load_digits(), write_files.make_training()
    losses = []
    for i in range(STEPS):
        rows = slice(i * write_files.BATCH, (i + 1) * write_files.BATCH)
        state, loss = step(state, (images[rows], labels[rows]))
        losses.append(loss)
    printed = [float(line.split()[-1]) for line in ran.stdout.splitlines()]
    assert same_number(torch.tensor(printed), torch.stack(losses))
    # AdamW divides by the gradient's size, so rounding counts for more where that is near 0.
    params = torch.cat([leaf.flatten() for leaf in lf.tree.leaves(state.params)])
    theirs = torch.from_numpy(np.fromfile(tmp_path / "params.bin", np.float32))
    assert same_number(theirs, params, error=1e-4)
