# SPDX-License-Identifier: Apache-2.0
"""`make demo`: two datacenters, a cluster and the daemon on one machine, watched until all is done.

It only starts what users start themselves and applies what they apply; nothing here is part of the daemon.
"""
