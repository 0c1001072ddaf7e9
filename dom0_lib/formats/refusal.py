# SPDX-License-Identifier: Apache-2.0
"""How a decoder refuses an image: errors.InvalidImage or errors.UnsafeImage, whose `rule` names the rule that was broken."""

from __future__ import absolute_import, division

from dom0_lib import errors


def damaged(rule, text):
    """The error for an image that is damaged or not of its format; a broken transfer can be the cause."""
    return _name(errors.InvalidImage(text), rule)


def unsafe(rule, text):
    """The error for an image that contradicts itself or is beyond a limit: the same bytes will be refused again."""
    return _name(errors.UnsafeImage(text), rule)


def rename(error, title):
    """The same error with `title` before its text."""
    return _name(type(error)('%s: %s' % (title, error)), getattr(error, 'rule', None))


def _name(error, rule):
    error.rule = rule
    return error
