# SPDX-License-Identifier: Apache-2.0
"""Stands in for the pip bootstrap script that ansible-test downloads.

Installs what it is asked for with the pip wheel that lies beside it; scripts/sanity puts both in their place.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    ours = {"--no-setuptools", "--no-wheel"}  # switches of the real script that pip does not know
    wheel = next(Path(__file__).parent.glob("pip-*.whl"))
    sys.path.insert(0, str(wheel))
    sys.argv[1:] = ["install", "--upgrade", "--force-reinstall", *(word for word in sys.argv[1:] if word not in ours)]
    runpy.run_module("pip", run_name="__main__", alter_sys=True)
