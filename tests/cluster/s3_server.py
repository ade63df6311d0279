"""moto's S3 server at ADDRESS PORT, quiet, until its input ends."""

from __future__ import annotations

import logging
import sys

from moto.server import ThreadedMotoServer

if __name__ == "__main__":
    address, port = sys.argv[1:]
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address=address, port=int(port), verbose=False)
    server.start()
    # It ends when whoever started it has ended, however that came about.
    sys.stdin.read()
    server.stop()
