"""Runs fakepve in a process of its own with one API token, which its command line cannot be given.

    fakepve_with_token.py GUESTS SECRET_FILE CERTIFICATE TOKEN_ID PORT TIME_SCALE

Writes the certificate it serves with to CERTIFICATE, for clients to trust.
"""

import asyncio
import json
import os
import shutil
import sys
import tempfile

from fakepve.certs import make_cert
from fakepve.server import FakePve


async def serve(guests_file, secret_file, certificate, token_id, port, time_scale):
    pve = FakePve(host='127.0.0.1', port=int(port))
    pve.time_scale = float(time_scale)
    with open(secret_file, encoding='utf-8') as secret:
        pve.apitokens[token_id] = secret.read().strip()
    with open(guests_file, encoding='utf-8') as guests:
        for guest in json.load(guests)['guests']:
            pve.add_vm(guest.pop('vmid'), guest.pop('name'), **guest)
    folder = tempfile.mkdtemp(dir=os.path.dirname(certificate))
    try:
        made, key, _ = make_cert(folder, hosts=('127.0.0.1',))
        os.replace(shutil.copy(made, certificate + '.new'), certificate)
        await pve.start(made, key)
    finally:
        shutil.rmtree(folder)
    while True:
        # A machine made from a template has no guest until it is told to have one.
        for vm in pve.vms:
            if vm.agent is None:
                vm.agent = {}
        await asyncio.sleep(0.1)


asyncio.run(serve(*sys.argv[1:]))
