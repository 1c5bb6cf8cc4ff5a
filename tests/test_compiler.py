"""Stages run without torch's compiler, and code that asks for the compiler gets it."""

import subprocess
import sys

import pytest

LOADED = """
import sys
from elite_pipeline.compiler import leave_out_compiler
leave_out_compiler()
{code}
print(hasattr(sys.modules.get("torch._dynamo"), "__file__"))
"""


def loads_compiler(code):
    """Whether `code` loads the compiler, in a process of its own."""
    command = [sys.executable, "-c", LOADED.format(code=code)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.split()[-1] == "True"


def test_what_stages_import_and_do_does_not_load_it():
    step = """
import lightning_fabric, peft, segment_anything, torch, torchvision
weight = torch.nn.Parameter(torch.ones(2))
for optimiser in (torch.optim.AdamW([weight]), torch.optim.SGD([weight], 0.1, momentum=0.9)):
    optimiser.zero_grad()
    (weight**2).sum().backward()
    optimiser.step()
    optimiser.load_state_dict(optimiser.state_dict())
assert (weight < 1).all()
layer = peft.get_peft_model(torch.nn.Sequential(torch.nn.Linear(2, 2)), peft.LoraConfig(target_modules=["0"]))
lightning_fabric.Fabric(accelerator="cpu").setup(layer)
"""
    assert not loads_compiler(step)


@pytest.mark.parametrize(
    "code",
    [
        "import torch; assert torch.compile(lambda x: x + 1, backend='eager')(torch.ones(1)) == 2",
        "import torch._dynamo.testing; assert sys.modules['torch._dynamo.testing'] is torch._dynamo.testing",
        "from torch._dynamo import disable; from torch._dynamo.utils import counters; assert len(counters) == 0",
    ],
)
def test_whoever_asks_for_it_gets_it(code):
    assert loads_compiler(code)
