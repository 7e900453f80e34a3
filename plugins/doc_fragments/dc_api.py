# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of the connection to a datacenter API; its argument spec is in module_utils/_dc_api_module.py."""

from __future__ import annotations


class ModuleDocFragment:
    """The fragment stargate.core.dc_api."""

    DOCUMENTATION = r"""
options:
  url:
    description:
      - Where the datacenter API is, as C(http://) or C(https://) with a host, and a path if there is one.
      - An empty text fails with the code C(DatacenterUnknown), so that a play can pass what it has.
    type: str
    required: true
  token_file:
    description:
      - A file on the controller with the bearer token, and nothing else in it.
      - The token is sent to O(url) only and never shown. Redirects are not followed.
    type: path
  ca_file:
    description:
      - A file on the controller with the certificates (PEM) of the authorities to trust. The system's are
        used when it is not set.
    type: path
  validate_certs:
    description:
      - Whether the certificate of the API must be valid.
    type: bool
    default: true
  timeout:
    description:
      - Seconds that one request may take, on top of the time that a long poll takes by intent.
    type: float
    default: 30.0
"""
