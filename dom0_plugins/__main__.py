# SPDX-License-Identifier: Apache-2.0
"""python3 -m dom0_plugins: the console script, from a checkout."""

from dom0_plugins import command_line

command_line.main()
