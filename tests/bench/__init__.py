# SPDX-License-Identifier: Apache-2.0
"""Time, memory and call overhead, beside what else does the same job: `make bench`."""
