# SPDX-License-Identifier: Apache-2.0
"""How long tests wait. They assert no lengths of time: for these there is `make bench`, on a machine that does nothing else."""

from __future__ import absolute_import, division

# All that ends by itself has ended by then, however busy the machine is: what has not, hangs.
LIMIT_S = 60
# A pause that is to be cut short: a client that sits through it is past the limit.
ENDLESS_S = 120
