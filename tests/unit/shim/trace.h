/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Events of the files that are tested alone: nobody traces. */

static inline void trace_postcopy_place_again(void *host, int error)
{
}

static inline void trace_postcopy_place_exists(void *host)
{
}
