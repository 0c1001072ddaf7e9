# SPDX-License-Identifier: Apache-2.0
"""A socketserver that ends when it is told to, not at its next look: hundreds of tests stop two or three servers each."""

import socket


class PromptServer(object):
    """Mix in before a class of socketserver."""

    def shutdown(self):
        # Linux wakes those that wait for a connection. serve_forever() then sees that it is to end; accept() fails until it does.
        self.socket.shutdown(socket.SHUT_RDWR)
        super().shutdown()
