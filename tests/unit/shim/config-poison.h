/*
 * No names of targets to keep out
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
