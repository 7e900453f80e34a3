# SPDX-License-Identifier: Apache-2.0
"""`make e2e`: bare machines become Ready Nodes and are repaved, rebooted, upgraded and taken out, with real parts.

A control plane, machines made by prep-dc-inventory, the daemon and Operations, as users have them. What is measured
and checked is here; nothing of the product is.
"""
