/*
 * The source's thread of a further channel for urgent pages, without the thread
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "migration/postcopy-urgent-out.c"
#include "peek.h"

void peek_urgent_answer(QEMUFile *requests, QEMUFile *pages)
{
    UrgentOut channel = { .index = 1, .requests = requests, .pages = pages };
    Error *err = NULL;

    own = &channel;
    while (answer(&channel, &err)) {
        continue;
    }
    error_free(err);
    own = NULL;
}
