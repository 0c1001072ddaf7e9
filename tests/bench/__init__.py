# SPDX-License-Identifier: Apache-2.0
"""Time, memory and call overhead, beside other programs for the same job: `make bench`."""
