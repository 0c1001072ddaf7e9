# SPDX-License-Identifier: Apache-2.0
"""Services of the kernel that any program needs: other programs, threads, files, locks."""
