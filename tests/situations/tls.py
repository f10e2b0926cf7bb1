# SPDX-License-Identifier: GPL-2.0-or-later
"""What two QEMUs need to talk TLS: keys made for the occasion, and who
presents which."""

import subprocess

HOST = 'destination.invalid'    # the name in the certificate; nobody looks it up
CURVE = ('-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1')


class Keys:
    """
    @source, @destination: arguments of the two QEMUs
    @parameters: of the migration; @source_parameters: of its source alone
    """

    def __init__(self, kind, folder, client=''):
        credentials = f'{kind},id=key,dir={folder}'
        self.source = ['-object', credentials + ',endpoint=client' + client]
        self.destination = ['-object', credentials + ',endpoint=server']
        self.parameters = {'tls-creds': 'key'}
        self.source_parameters = {}


def shared_key(folder):
    """Both sides know a secret (PSK)."""
    folder.mkdir(exist_ok=True)
    (folder / 'keys.psk').write_text('qemu:' + '0123456789abcdef' * 2 + '\n')
    return Keys('tls-creds-psk', folder, ',username=qemu')


def certify(folder, name, subject, *options):
    """A key, and a certificate of an authority that is made first."""
    subprocess.run(
        ['openssl', 'req', '-x509', *CURVE, '-nodes', '-days', '2',
         '-keyout', folder / f'{name}-key.pem', '-out', folder / f'{name}-cert.pem',
         '-subj', f'/CN={subject}', *options],
        check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE)


def certificates(folder, name=HOST):
    """
    Each side presents a certificate (x509) and checks the other's.
    @name: in that of the destination; the source expects HOST
    """
    folder.mkdir(exist_ok=True)
    certify(folder, 'ca', 'authority', '-addext', 'keyUsage=critical,keyCertSign')
    signed = ('-CA', folder / 'ca-cert.pem', '-CAkey', folder / 'ca-key.pem',
              '-addext', 'basicConstraints=critical,CA:FALSE',
              '-addext', 'keyUsage=critical,digitalSignature')
    certify(folder, 'server', name, *signed,
            '-addext', f'subjectAltName=DNS:{name}',
            '-addext', 'extendedKeyUsage=serverAuth')
    certify(folder, 'client', 'source.invalid', *signed,
            '-addext', 'extendedKeyUsage=clientAuth')
    keys = Keys('tls-creds-x509', folder, ',verify-peer=on')
    keys.destination[1] += ',verify-peer=on'
    keys.source_parameters = {'tls-hostname': HOST}
    return keys
