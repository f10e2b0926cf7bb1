# SPDX-License-Identifier: GPL-2.0-or-later
"""Options of QEMU's configure for each profile.

small builds fast and holds what the tests use, sanitized and tsan the same.  server
holds what a virtualisation host uses.  All take the firmware from Debian's packages.
"""

FIRMWARE = ('/usr/share/qemu', '/usr/share/seabios', '/usr/lib/ipxe/qemu')

COMMON = [
    '--without-default-features', '--target-list=x86_64-softmmu',
    '--enable-kvm', '--enable-tcg', '--enable-slirp', '--enable-virtfs',
    '--enable-attr', '--enable-pixman', '--enable-fdt=system', '--enable-gnutls',
    '--enable-vhost-kernel', '--enable-vhost-net', '--enable-vhost-user',
    # libvirt puts QEMU under seccomp.
    '--enable-seccomp',
    # Makes a vhost-user back end buildable; only named targets are built.
    '--enable-tools',
    '--disable-install-blobs', '--firmwarepath=' + ':'.join(FIRMWARE),
    '--disable-docs', '--disable-download', '--disable-werror',
    # Otherwise it would be asked of git, and change at every commit.
    '--with-pkgversion=kvm-userfault',
]

PROFILES = {
    'small': COMMON,
    # Beside another one, for the tests: build.py sanitized.
    # By clang: gcc's two runtimes do not share the file of reports.
    'sanitized': COMMON + ['--cc=clang', '--cxx=clang++', '--enable-asan',
                           '--enable-ubsan'],
    # The thread sanitizer bears no other beside it.
    'tsan': COMMON + ['--cc=clang', '--cxx=clang++', '--enable-tsan'],
    'server': COMMON + [
        # Front ends and access.
        '--enable-vnc', '--enable-vnc-jpeg', '--enable-png',
        '--enable-keyring', '--enable-tpm',
        # Host.
        '--enable-cap-ng', '--enable-numa', '--enable-membarrier',
        '--enable-malloc-trim', '--enable-hv-balloon', '--enable-multiprocess',
        # Disks.
        '--enable-linux-io-uring', '--enable-linux-aio', '--enable-replication',
        '--enable-bzip2', '--enable-qcow1', '--enable-vdi', '--enable-vmdk',
        '--enable-vhdx', '--enable-vpc', '--enable-vvfat', '--enable-qed',
        '--enable-parallels',
        # Devices.
        '--enable-vhost-vdpa', '--enable-vhost-crypto',
        '--enable-vhost-user-blk-server', '--enable-usb-redir', '--enable-libusb',
        # Migration.
        '--enable-zstd', '--enable-colo-proxy',
    ],
}
