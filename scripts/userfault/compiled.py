# SPDX-License-Identifier: GPL-2.0-or-later
"""The commands by which QEMU's files were compiled, for other compilers."""

import json
import os
import shlex

from common import StepError, build_dir

# gcc options that clang does not know
NOT_CLANG = ('-fzero-call-used-regs=used-gpr', '-ftrivial-auto-var-init=zero')


def entries():
    """[(real path of the source, folder, words)] of QEMU's build"""
    database = os.path.join(build_dir(), 'qemu-build', 'compile_commands.json')
    if not os.path.exists(database):
        raise StepError('QEMU was not built; run make qemu')
    with open(database) as stream:
        return [(os.path.realpath(os.path.join(entry['directory'], entry['file'])),
                 entry['directory'], shlex.split(entry['command']))
                for entry in json.load(stream)]


def without_output(words):
    """The compiler's command, without what it would write"""
    kept, words = [], list(words)
    while words:
        word = words.pop(0)
        if word in ('-o', '-MF', '-MQ'):
            words.pop(0)
        elif word != '-MD' and not word.endswith('ccache'):
            kept.append(word)
    return kept


def for_clang(words):
    """The same, as clang understands it and without warnings"""
    return ['clang', *(word for word in without_output(words)[1:]
                       if word not in NOT_CLANG and not word.startswith('-W'))]
