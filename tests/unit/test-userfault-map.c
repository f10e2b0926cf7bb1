/*
 * Does an exit find the memslot it came from?
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "userfault-map.h"
#include "unit.h"

#define PAGE 4096ull
#define SLOT(as, index) ((as) << 16 | (index))

static UserfaultView *view_new(uint32_t slot, uint64_t gpa, uint64_t size)
{
    UserfaultView *view = userfault_view_new(slot, gpa, size, NULL, 0, NULL,
                                             PAGE);

    g_assert_nonnull(view);
    return view;
}

static void add(UserfaultMap **map, UserfaultView *view)
{
    UserfaultMap *old = *map;

    *map = userfault_map_add(old, view);
    g_free(old);
}

static void remove_view(UserfaultMap **map, UserfaultView *view)
{
    UserfaultMap *old = *map;

    *map = userfault_map_remove(old, view);
    g_free(old);
}

static void test_empty(void)
{
    UserfaultView *view = view_new(1, 0, PAGE);
    UserfaultMap *map = NULL;

    g_assert_null(userfault_map_find(NULL, 0, 0));
    g_assert_null(userfault_map_find_slot(NULL, 1));
    add(&map, view);
    g_assert_cmpuint(map->nr, ==, 1);
    remove_view(&map, view);
    g_assert_cmpuint(map->nr, ==, 0);
    g_assert_null(userfault_map_find(map, 0, 0));
    g_assert_null(userfault_map_find_slot(map, 1));
    g_free(map);
    userfault_view_free(view);
}

/* Readers keep the old map while a new one is made. */
static void test_old_unchanged(void)
{
    UserfaultView *a = view_new(1, 0, PAGE), *b = view_new(2, PAGE, PAGE);
    UserfaultMap *one = userfault_map_add(NULL, b);
    UserfaultMap *two = userfault_map_add(one, a);
    UserfaultMap *rest = userfault_map_remove(two, b);

    g_assert_cmpuint(one->nr, ==, 1);
    g_assert_true(one->view[0] == b);
    g_assert_cmpuint(two->nr, ==, 2);
    g_assert_true(two->view[0] == a && two->view[1] == b);
    g_assert_cmpuint(rest->nr, ==, 1);
    g_assert_true(rest->view[0] == a);
    g_free(one);
    g_free(two);
    g_free(rest);
    userfault_view_free(a);
    userfault_view_free(b);
}

static void test_edges(void)
{
    /* low, then a gap, then mid and high without one between */
    UserfaultView *low = view_new(SLOT(0, 1), 0, 4 * PAGE);
    UserfaultView *mid = view_new(SLOT(0, 2), 16 * PAGE, PAGE);
    UserfaultView *high = view_new(SLOT(0, 3), 17 * PAGE, 3 * PAGE);
    UserfaultView *top = view_new(SLOT(0, 4), 0 - 4 * PAGE, 4 * PAGE);
    UserfaultMap *map = NULL;

    add(&map, high);
    add(&map, low);
    add(&map, top);
    add(&map, mid);
    g_assert_true(userfault_map_find(map, 0, 0) == low);
    g_assert_true(userfault_map_find(map, 0, 4 * PAGE - 1) == low);
    g_assert_null(userfault_map_find(map, 0, 4 * PAGE));
    g_assert_null(userfault_map_find(map, 0, 16 * PAGE - 1));
    g_assert_true(userfault_map_find(map, 0, 16 * PAGE) == mid);
    g_assert_true(userfault_map_find(map, 0, 17 * PAGE - 1) == mid);
    g_assert_true(userfault_map_find(map, 0, 17 * PAGE) == high);
    g_assert_true(userfault_map_find(map, 0, 20 * PAGE - 1) == high);
    g_assert_null(userfault_map_find(map, 0, 20 * PAGE));
    g_assert_null(userfault_map_find(map, 0, 0 - 4 * PAGE - 1));
    g_assert_true(userfault_map_find(map, 0, 0 - 4 * PAGE) == top);
    g_assert_true(userfault_map_find(map, 0, UINT64_MAX) == top);
    g_free(map);
    userfault_view_free(low);
    userfault_view_free(mid);
    userfault_view_free(high);
    userfault_view_free(top);
}

/* A page of a block that several slots map */
static void test_clear(void)
{
    static int block, other;
    UserfaultView *view[] = {
        userfault_view_new(SLOT(0, 1), 0, 4 * PAGE, &other, 0, NULL, PAGE),
        userfault_view_new(SLOT(0, 2), 4 * PAGE, 4 * PAGE, &block, 0, NULL,
                           PAGE),
        userfault_view_new(SLOT(0, 3), 8 * PAGE, 4 * PAGE, &block, 4 * PAGE,
                           NULL, PAGE),
        userfault_view_new(SLOT(1, 1), 0, 2 * PAGE, &block, 2 * PAGE, NULL,
                           PAGE),
    };
    UserfaultMap *map = NULL;
    unsigned i;

    userfault_map_clear(NULL, &block, 0, PAGE);
    for (i = 0; i < G_N_ELEMENTS(view); i++) {
        g_assert_nonnull(view[i]);
        add(&map, view[i]);
    }
    userfault_map_clear(map, &block, 3 * PAGE, PAGE);
    for (i = 0; i < 4; i++) {
        g_assert_true(userfault_view_test(view[0], i * PAGE));
        g_assert_cmpint(userfault_view_test(view[1], i * PAGE), ==, i != 3);
        g_assert_true(userfault_view_test(view[2], (4 + i) * PAGE));
    }
    g_assert_true(userfault_view_test(view[3], 2 * PAGE));
    g_assert_false(userfault_view_test(view[3], 3 * PAGE));
    for (i = 0; i < G_N_ELEMENTS(view); i++) {
        userfault_view_free(view[i]);
    }
    g_free(map);
}

static void test_address_spaces(void)
{
    UserfaultView *normal = view_new(SLOT(0, 5), PAGE, 4 * PAGE);
    UserfaultView *smm = view_new(SLOT(1, 5), PAGE, 2 * PAGE);
    UserfaultView *smram = view_new(SLOT(1, 6), 10 * PAGE, PAGE);
    UserfaultMap *map = NULL;

    add(&map, smram);
    add(&map, smm);
    add(&map, normal);
    g_assert_true(userfault_map_find(map, 0, 2 * PAGE) == normal);
    g_assert_true(userfault_map_find(map, 1, 2 * PAGE) == smm);
    g_assert_true(userfault_map_find(map, 0, 4 * PAGE) == normal);
    /* What is nearest below is in another address space. */
    g_assert_null(userfault_map_find(map, 1, 4 * PAGE));
    g_assert_null(userfault_map_find(map, 1, 0));
    g_assert_null(userfault_map_find(map, 0, 10 * PAGE));
    g_assert_true(userfault_map_find(map, 1, 10 * PAGE) == smram);
    g_assert_null(userfault_map_find(map, 2, 2 * PAGE));

    g_assert_true(userfault_map_find_slot(map, SLOT(0, 5)) == normal);
    g_assert_true(userfault_map_find_slot(map, SLOT(1, 5)) == smm);
    g_assert_true(userfault_map_find_slot(map, SLOT(1, 6)) == smram);
    g_assert_null(userfault_map_find_slot(map, SLOT(0, 6)));

    /* SMM's slot alone: what is below all has no view. */
    remove_view(&map, normal);
    g_assert_null(userfault_map_find(map, 0, 2 * PAGE));
    g_assert_true(userfault_map_find(map, 1, 2 * PAGE) == smm);
    g_free(map);
    userfault_view_free(normal);
    userfault_view_free(smm);
    userfault_view_free(smram);
}

static void check_order(const UserfaultMap *map)
{
    for (unsigned i = 1; i < map->nr; i++) {
        const UserfaultView *a = map->view[i - 1], *b = map->view[i];

        g_assert_cmpuint(a->slot >> 16, <=, b->slot >> 16);
        if (a->slot >> 16 == b->slot >> 16) {
            g_assert_cmphex(a->gpa, <, b->gpa);
        }
    }
}

static void check_find(const UserfaultMap *map, unsigned as, uint64_t gpa)
{
    UserfaultView *want = NULL;

    for (unsigned i = 0; map && i < map->nr; i++) {
        UserfaultView *view = map->view[i];

        if (view->slot >> 16 == as && gpa >= view->gpa &&
            gpa < view->gpa + view->size) {
            g_assert_null(want);
            want = view;
        }
    }
    g_assert_true(userfault_map_find(map, as, gpa) == want);
}

/* Slots come and go in any order. */
static void test_churn(void)
{
    enum { SLOTS = 40, PLACES = 20 };
    UserfaultView *view[SLOTS] = { NULL };
    UserfaultMap *map = NULL;
    uint32_t chance = 5;
    unsigned round, i, nr = 0;

    for (round = 0; round < 2000; round++) {
        i = unit_random(&chance) % SLOTS;
        if (view[i]) {
            g_assert_true(userfault_map_find_slot(map, view[i]->slot) ==
                          view[i]);
            remove_view(&map, view[i]);
            g_assert_null(userfault_map_find_slot(map, view[i]->slot));
            userfault_view_free(view[i]);
            view[i] = NULL;
            nr--;
        } else {
            unsigned as = i / PLACES, place = i % PLACES;

            view[i] = view_new(SLOT(as, place), place * 8 * PAGE,
                               (1 + unit_random(&chance) % 8) * PAGE);
            add(&map, view[i]);
            nr++;
        }
        g_assert_cmpuint(map->nr, ==, nr);
        check_order(map);
        for (i = 0; i < PLACES * 8 + 2; i++) {
            check_find(map, 0, i * PAGE);
            check_find(map, 1, i * PAGE + PAGE - 1);
        }
    }
    for (i = 0; i < SLOTS; i++) {
        if (view[i]) {
            userfault_view_free(view[i]);
        }
    }
    g_free(map);
}

static void test_like(void)
{
    int ram = 0, other = 0;
    UserfaultView *low = userfault_view_new(SLOT(0, 1), 0, 4 * PAGE, &ram, 0,
                                            NULL, PAGE);
    UserfaultView *high = userfault_view_new(SLOT(0, 2), 16 * PAGE, 2 * PAGE,
                                             &ram, 4 * PAGE, NULL, PAGE);
    UserfaultMap *map = NULL;

    g_assert_null(userfault_map_find_like(NULL, &ram, 0, 4 * PAGE));
    add(&map, low);
    add(&map, high);
    g_assert_true(userfault_map_find_like(map, &ram, 0, 4 * PAGE) == low);
    g_assert_true(userfault_map_find_like(map, &ram, 4 * PAGE, 2 * PAGE) == high);
    g_assert_null(userfault_map_find_like(map, &ram, 0, 3 * PAGE));
    g_assert_null(userfault_map_find_like(map, &ram, PAGE, 4 * PAGE));
    g_assert_null(userfault_map_find_like(map, &other, 0, 4 * PAGE));
    g_free(map);
    userfault_view_free(low);
    userfault_view_free(high);
}

int main(int argc, char **argv)
{
    unit_init(&argc, &argv, 120);
    unit_add("/userfault-map/empty/nothing-found", test_empty);
    unit_add("/userfault-map/add-and-remove/old-map-unchanged",
             test_old_unchanged);
    unit_add("/userfault-map/slot-edges/found-within-only", test_edges);
    unit_add("/userfault-map/address-spaces/kept-apart", test_address_spaces);
    unit_add("/userfault-map/clear/all-slots-of-the-block", test_clear);
    unit_add("/userfault-map/like/same-part-of-the-block-only", test_like);
    unit_add("/userfault-map/slots-come-and-go/found-in-order", test_churn);
    return g_test_run();
}
