# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the collection's modules say about check mode, diff mode and where they run."""

from __future__ import annotations


class ModuleDocFragment:
    """The fragment stargate.core.attributes."""

    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Whether the task can say what it would do without doing it.
  diff_mode:
    description: Whether the task can show what changes, before and after.
  platform:
    description: Where the work can be done.
"""

    ACTION = r"""
options: {}
attributes:
  action:
    description: The work is done by an action plugin, in the controller's process.
    support: full
  async:
    description: Whether the keyword C(async) can be used.
    support: none
  connection:
    description: Whether the host's connection is used.
    support: none
"""
