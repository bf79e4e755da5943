# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""No test reaches another machine: in this process, and in the Python processes that it starts."""

import sys

WITH_ADDRESS = {'socket.connect': 1, 'socket.sendto': 1, 'socket.sendmsg': 1}
WITH_NAME = {'socket.getaddrinfo': 0, 'socket.gethostbyname': 0, 'socket.gethostbyaddr': 0}
LOCAL = ('', 'localhost', '::1', '::', '0.0.0.0')  # and 127.*


def is_local(host):
    """
    Tell whether a name or an address is this machine's loopback.

    Parameters
    ----------
    host : str, bytes or None
        As the functions of `socket` take it.

    Returns
    -------
    local : bool
        True for None, too, which stands for this machine.
    """
    if isinstance(host, bytes):
        host = host.decode('ascii', 'replace')
    return host is None or host in LOCAL or host.startswith(('127.', '::ffff:127.'))


def refuse_other_addresses():
    """
    Let every attempt to reach another machine fail, for as long as this process lives.

    The interpreter itself asks before it looks up a name, connects or sends, so nothing written in
    Python passes by; what a browser or a C++ library does is not seen.
    """
    import socket

    own = socket.gethostname()

    def hook(event, arguments):
        if event in WITH_ADDRESS:
            address = arguments[WITH_ADDRESS[event]]
            if not isinstance(address, tuple):  # a path of a Unix socket, or one that is connected
                return
            host = address[0]
        elif event in WITH_NAME:
            host = arguments[WITH_NAME[event]]
            if host == own:
                return
        else:
            return
        if not is_local(host):
            msg = f'{event} {host!r}: tests reach the loopback alone'
            raise OSError(msg)

    sys.addaudithook(hook)
