# SPDX-License-Identifier: GPL-2.0-or-later
"""Does the kernel's package get the options it stands for, from any base?"""

import os
import unittest

import support
import build
import kerneldeb
from common import StepError

BASE = '''\
CONFIG_MODULE_SIG_FORMAT=y
CONFIG_DEBUG_INFO=y
'''


class Flavours(support.Case):
    def custom(self, text):
        path = os.path.join(self.folder, 'config')
        support.write(path, text)
        return kerneldeb.Flavour(path, '6.12.1', None)

    def test_keys_and_debug_information_of_a_base_go(self):
        wanted = build.options_in(self.custom(BASE).options())
        self.assertEqual(wanted['CONFIG_SYSTEM_TRUSTED_KEYS'], '""')
        self.assertEqual(wanted['CONFIG_DEBUG_INFO_NONE'], 'y')
        self.assertEqual(wanted['CONFIG_KVM_USERFAULT'], 'y')
        self.assertEqual(wanted['CONFIG_KVM_USERFAULT_BREAK'], 'n')

    def test_options_that_a_base_cannot_have_are_not_asked_for(self):
        wanted = build.options_in(self.custom('CONFIG_KVM=y\n').options())
        self.assertNotIn('CONFIG_SYSTEM_TRUSTED_KEYS', wanted)
        self.assertNotIn('CONFIG_DEBUG_INFO_NONE', wanted)

    def test_names_differ(self):
        custom = self.custom(BASE)
        small = kerneldeb.Flavour('testhost', '6.12.1', None)
        self.assertEqual((custom.suffix, small.suffix),
                         ('-userfault-custom', '-userfault-testhost'))
        self.assertNotEqual(custom.folder, small.folder)

    def test_unknown_one_is_named(self):
        with self.assertRaisesRegex(StepError, 'KERNEL_CONFIG=cluod: neither a file '
                                               'nor one of cloud, generic, testhost'):
            kerneldeb.Flavour('cluod', '6.12.1', None)

    def test_kernel_without_the_option_is_refused(self):
        path = os.path.join(self.folder, '.config')
        support.write(path, 'CONFIG_LOCALVERSION=""\n')
        with self.assertRaisesRegex(StepError, r'CONFIG_KVM_USERFAULT=y \(is n\)'):
            build.check_options(path, kerneldeb.WANTED, '6.12.1', 'here')


if __name__ == '__main__':
    unittest.main()
