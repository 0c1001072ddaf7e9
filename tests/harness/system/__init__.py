# SPDX-License-Identifier: Apache-2.0
"""Programs, processes and servers, as every part of the simulated host starts them."""
