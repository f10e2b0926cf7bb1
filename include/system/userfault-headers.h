/*
 * Headers that KVM userfault needs and that QEMU 10.0 has elsewhere
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef SYSTEM_USERFAULT_HEADERS_H
#define SYSTEM_USERFAULT_HEADERS_H

#if __has_include("system/ramblock.h")
#include "system/memory.h"
#include "system/ramblock.h"
#else
#include "exec/memory.h"
#include "exec/ramblock.h"
#endif

#endif
