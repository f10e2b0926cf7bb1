# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernels that look for errors of their own (tests/kernel/debug)."""

import os
import subprocess
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
        self.assertEqual([word.partition('=')[0] for word in
                          build.variant_make(self.folder, 'kcsan')], [
            'KCSAN_SANITIZE', 'KCSAN_SANITIZE_../../../virt/kvm/userfault.o',
            'KCSAN_SANITIZE_mmu/userfault.o', 'KCSAN_SANITIZE_x86.o'])
        self.assertEqual(build.variant_make(self.folder, 'kasan'), [])

    def test_kcsan_leaves_namesakes_alone(self):
        support.write(os.path.join(self.folder, 'arch/x86/kvm/x86.c'), '')
        support.write(os.path.join(self.folder, 'Makefile'),
                      'all:\n\t@$(MAKE) -f sub obj=arch/x86/kvm\n'
                      '\t@$(MAKE) -f sub obj=arch/x86/boot\n')
        support.write(os.path.join(self.folder, 'sub'),
                      'all:\n\t@echo $(KCSAN_SANITIZE_x86.o)$(KCSAN_SANITIZE)\n')
        done = subprocess.run(
            ['make', '-s', '-C', self.folder,
             *build.variant_make(self.folder, 'kcsan')], check=True,
            stdout=subprocess.PIPE, universal_newlines=True)
        self.assertEqual([line for line in done.stdout.splitlines()
                          if not line.startswith('make')], ['yn', 'n'])

    def test_unknown_one_is_an_error(self):
        with self.assertRaisesRegex(build.StepError, r'kasan\|kcsan\|lockdep'):
            build.step(['kernel', 'nonsense'])


if __name__ == '__main__':
    unittest.main()
