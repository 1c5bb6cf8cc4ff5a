"""Turn a requirements list (stdin, from `uv export`) into a conda environment (stdout) for `snakemake --sdm conda`."""

import sys

HEADER = """\
# Generated from uv.lock by `make envs`; a test fails when the two drift apart.
channels: [conda-forge, nodefaults]
dependencies:
  - python=3.11
  - pip
  # Open3D loads these from the system.
  - libgl
  - xorg-libx11
  - pip:
"""

requirements = [line.strip() for line in sys.stdin if line.strip()]
print(HEADER + "\n".join(f'      - "{requirement}"' for requirement in requirements))
