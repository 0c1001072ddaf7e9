# SPDX-License-Identifier: Apache-2.0
"""Every error a caller can see.

A class name is protocol: the caller finds it in details[2] of the failure and branches on it.  The classes carry
facts as attributes; only dom0_lib.call.dispatch turns them into what goes over the wire.
"""

from __future__ import absolute_import, division


class PluginError(Exception):
    """The call failed for good; the same call again would fail again."""


class RequestError(PluginError):
    """XAPI did not start this process, or its argument is not a method call."""


class ArgumentError(PluginError):
    """An argument is missing, of the wrong kind, or unknown; nothing has happened."""

    def __init__(self, argument, reason):
        super(ArgumentError, self).__init__("argument '%s': %s" % (argument, reason))
        self.argument = argument
        self.reason = reason


class Denied(PluginError):
    """The host's policy forbids the call; nothing has happened."""


class RetryableError(PluginError):
    """The call failed, left nothing behind, and may succeed when repeated: callers retry on this name."""


class ImageNotFound(PluginError):
    """The image service has no such image, or hides it from this token."""


class InvalidImage(PluginError):
    """The image cannot be used: it is no archive, has a gap in its sequence, or holds a damaged VHD."""


class UnsafeImage(InvalidImage):
    """The image would reach outside itself or break the storage repository, so it was refused."""


class StorageError(PluginError):
    """The storage repository is missing, full, or refuses the operation."""


class CommandNotFound(PluginError):
    """A program that dom0 should have is not on PATH."""

    def __init__(self, command, message=None):
        super(CommandNotFound, self).__init__(message or "command '%s' was not found on PATH" % command)
        self.command = command


class CommandFailed(PluginError):
    """A program ended with an error, or was killed by us (`status` is then None, and `output` says why)."""

    def __init__(self, command, status, output):
        ending = 'was killed' if status is None else 'ended with status %d' % status
        super(CommandFailed, self).__init__("command '%s' %s: %s" % (command, ending, output or 'no output'))
        self.command = command
        self.status = status
        self.output = output


class RebootDetectedError(PluginError):
    """The guest's domain is gone; the guest may have rebooted into a new one.  The message begins with REBOOT:."""


class NotImplementedError(PluginError):
    """The guest's agent lacks this function; the message begins with NOT IMPLEMENTED:."""


class UnknownFunction(Exception):
    """The plug-in has no call of this name."""

    def __init__(self, function):
        super(UnknownFunction, self).__init__(function)
        self.function = function


class Failure(Exception):
    """A failure with a XAPI error code of its own, passed to the client unchanged."""

    def __init__(self, code, params):
        super(Failure, self).__init__(code, params)
        self.code = code
        self.params = list(params)


class Terminated(BaseException):
    """A signal asked the process to end; not an Exception, so that no handler of errors swallows it."""

    def __init__(self, signal_number):
        super(Terminated, self).__init__(signal_number)
        self.signal_number = signal_number
