# SPDX-License-Identifier: Apache-2.0
"""A datacenter API to try things against: it takes repave and reboot jobs and lets time carry them out.

It is a program that users run (`stargate-mock-dc`), not a test double. Nothing of the daemon is imported here,
and nothing here is imported by the daemon; no machine is ever touched.
"""
