# SPDX-License-Identifier: Apache-2.0
"""The fitness of this host for the plug-ins: how it is examined, made and undone.

Uses: call, guests, migration, storage, system, toolstack, web.
"""
