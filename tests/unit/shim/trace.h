/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Events of the files that are tested alone: nobody traces. */

static inline void trace_postcopy_order_detour(void *block, uint64_t page,
                                               uint64_t end)
{
}

static inline void trace_postcopy_place_again(void *host, int error)
{
}

static inline void trace_postcopy_place_exists(void *host)
{
}
