"""Runs fakepve in a process of its own with one API token, which its command line cannot be given.

    fakepve_with_token.py GUESTS SECRET_FILE CERTIFICATE TOKEN_ID PORT TIME_SCALE CONTROL_PORT

Writes the certificate it serves with to CERTIFICATE, for clients to trust. On CONTROL_PORT, over plain HTTP,
`POST /_control/acts` with `{"act": …, "args": […]}` makes one of its own scenarios happen (ACTS).
"""

import asyncio
import inspect
import json
import os
import shutil
import sys
import tempfile

from aiohttp import web
from fakepve.certs import make_cert
from fakepve.server import FakePve


ACTS = ('add_vm', 'fail', 'hold_config_lock', 'lose_quorum', 'regain_quorum', 'release_config_lock', 'set_node_offline',
        'snapshot_lock', 'unlock')


async def control(pve, port):
    async def act(request):
        asked = await request.json()
        name, args = asked['act'], asked.get('args', [])
        if name == 'agent_hangs':
            pve.vm(args[0]).agent_hangs = args[1]
        elif name in ACTS:
            done = getattr(pve, name)(*args)
            if inspect.isawaitable(done):
                await done
        else:
            raise web.HTTPBadRequest(text='no act is called ' + name)
        return web.json_response(None)

    app = web.Application()
    app.router.add_post('/_control/acts', act)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, '127.0.0.1', int(port)).start()


async def serve(guests_file, secret_file, certificate, token_id, port, time_scale, control_port):
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
        await control(pve, control_port)
    finally:
        shutil.rmtree(folder)
    while True:
        # A machine made from a template has no guest until it is told to have one.
        for vm in pve.vms:
            if vm.agent is None:
                vm.agent = {}
        await asyncio.sleep(0.1)


asyncio.run(serve(*sys.argv[1:]))
