# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernels that look for errors of their own (tests/kernel/debug)."""

import os
import unittest

import support
import build


class Variants(support.Case):

    def options(self, variant, version='6.12.1'):
        return build.options_in(build.fragment(version, variant))

    def test_each_is_the_test_hosts_kernel_and_more(self):
        base = build.options_in(build.fragment('6.12.1'))
        for variant in build.variants():
            found = self.options(variant)
            self.assertEqual(set(base) - set(found), set(), variant)
            self.assertNotEqual(base, found, variant)

    def test_last_word_about_an_option_counts(self):
        found = self.options('lockdep')
        self.assertEqual(found['CONFIG_PREEMPT_VOLUNTARY'], 'n')
        self.assertEqual(found['CONFIG_PREEMPT'], 'y')

    def test_what_is_for_one_version_stays_there(self):
        self.assertNotIn('CONFIG_PREEMPT_VOLUNTARY', self.options('lockdep', '7.3.4'))

    def test_kcsan_checks_kvm_alone(self):
        for name in ('arch/x86/kvm/x86.c', 'arch/x86/kvm/mmu/userfault.c',
                     'virt/kvm/userfault.c', 'mm/memory.c'):
            support.write(os.path.join(self.folder, name), '')
        self.assertEqual(build.variant_make(self.folder, 'kcsan'), [
            'KCSAN_SANITIZE=n',
            'KCSAN_SANITIZE_../../../virt/kvm/userfault.o=y',
            'KCSAN_SANITIZE_mmu/userfault.o=y', 'KCSAN_SANITIZE_x86.o=y'])
        self.assertEqual(build.variant_make(self.folder, 'kasan'), [])

    def test_unknown_one_is_an_error(self):
        with self.assertRaisesRegex(build.StepError, r'kasan\|kcsan\|lockdep'):
            build.step(['kernel', 'nonsense'])


if __name__ == '__main__':
    unittest.main()
