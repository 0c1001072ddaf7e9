# SPDX-License-Identifier: Apache-2.0
"""Disk images between an image service and an SR.

Uses: formats, storage, system, toolstack, web.
"""
