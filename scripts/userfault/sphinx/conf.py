# SPDX-License-Identifier: GPL-2.0-or-later
"""How Sphinx builds the project's pages on their own; see docs.py."""

# pylint: disable=invalid-name
project = 'KVM userfault for QEMU'
copyright = 'its authors, GPL-2.0-or-later'     # pylint: disable=redefined-builtin
root_doc = 'index'
html_theme = 'classic'
html_theme_options = {'nosidebar': True}
html_copy_source = False
html_show_sphinx = False
nitpicky = True
man_pages = [('system/kvm-userfault', 'qemu-kvm-userfault',
              'postcopy migration on KVM userfault', '', 7)]
