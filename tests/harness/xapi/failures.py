# SPDX-License-Identifier: Apache-2.0
"""The errors that XAPI answers with."""


class Failure(Exception):
    """An API error: the client sees [code, *params] as ErrorDescription."""

    def __init__(self, code, *params):
        super().__init__(code, *params)
        self.code = code
        self.params = params

    @property
    def details(self):
        return [self.code] + list(self.params)


class Fault(Exception):
    """An XML-RPC fault: the request cannot be served in the way it was made."""


def type_error(expected, found):
    """The error for an argument of the wrong type: ocaml-rpc raises, and XAPI has no better code for an exception."""
    return Failure("INTERNAL_ERROR", 'Failure("Expected %s, got \'%s\'")' % (expected, found))
