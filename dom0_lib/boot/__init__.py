# SPDX-License-Identifier: Apache-2.0
"""Files that guests boot from: kernels in /boot/guest, ISOs of iPXE.

Uses: call, devices, storage, system, toolstack.
"""
