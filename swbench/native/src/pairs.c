/* The layer where no group of an image asks for anything of another: the threads are called once and not for every pass, and a group is mapped soon after its
   sums, while it is still in a cache. Pass by pass or in this way, results are the same to the last bit. */
#include <sched.h>
#include <stdlib.h>

#include "algebra.h"
#include "team.h"
#include "tensor.h"

/* An item is what one call of `small` takes: one pair of image and group, or as many as a vector holds. */
struct pairs {
    struct gram gram;
    struct mix map;
    task_fn small;
    void *context;
    long count, items, size; /* pairs, items, pairs of an item */
    long sums, maps;         /* tasks of an item; no maps where nobody asks for them */
    long lead;               /* items whose sums are begun before the first is mapped */
    int *done;               /* sums of every item, then READY */
};

enum { READY = -1, PATIENCE = 4096 };

static long first_of(const struct pairs *k, long item) { return item * k->size; }
static long end_of(const struct pairs *k, long item) { return first_of(k, item + 1) < k->count ? first_of(k, item + 1) : k->count; }

/* All of an item: what a thread has read is in its own cache when it maps it. */
static void pairs_item(void *context, long item) {
    const struct pairs *k = context;
    const long groups = k->gram.groups, first = first_of(k, item), end = end_of(k, item);
    for (long at = first; at < end; at++) gram_pair(&k->gram, at / groups, at % groups);
    k->small(k->context, item);
    for (long at = first; k->maps && at < end; at++) mix_pair(&k->map, at / groups, at % groups);
}

static void sum_task(const struct pairs *k, long item, long task) {
    const long groups = k->gram.groups, segments = k->gram.segments, at = first_of(k, item) + task / segments, end = end_of(k, item);
    if (at < end) gram_segment(&k->gram, at / groups, at % groups, task % segments);
    /* The last to finish adds the segments up, always in the same order. */
    if (__atomic_add_fetch(&k->done[item], 1, __ATOMIC_ACQ_REL) != k->sums) return;
    for (long pair = first_of(k, item); pair < end; pair++) finish(&k->gram, pair / groups, pair % groups);
    k->small(k->context, item);
    __atomic_store_n(&k->done[item], READY, __ATOMIC_RELEASE);
}

static void map_task(const struct pairs *k, long item, long task) {
    const long groups = k->gram.groups, segments = k->map.segments, at = first_of(k, item) + task / segments;
    /* Tasks are taken in order, so all its sums are in the hands of threads that run; on a busy machine one of them may have to be let. */
    for (int tries = 0; __atomic_load_n(&k->done[item], __ATOMIC_ACQUIRE) != READY; tries++)
        if (tries > PATIENCE) sched_yield();
    if (at < end_of(k, item)) mix_segment(&k->map, at / groups, at % groups, segments - 1 - task % segments); /* the end was read last */
}

/* Sums of the first `lead` items; then by turns the maps of one item and the sums of another; and the last maps. */
static void pairs_task(void *context, long index) {
    const struct pairs *k = context;
    const long both = k->sums + k->maps, begun = k->lead * k->sums, turns = (k->items - k->lead) * both;
    if (index < begun) return sum_task(k, index / k->sums, index % k->sums);
    index -= begun;
    if (index >= turns) return map_task(k, k->items - k->lead + (index - turns) / k->maps, (index - turns) % k->maps);
    const long turn = index / both, task = index % both;
    if (task < k->maps)
        map_task(k, turn, task);
    else
        sum_task(k, k->lead + turn, task - k->maps);
}

/* Whether the layer can be done so. */
static int in_pairs(const struct layer *l) {
    if (!l->mean || l->batch_mean) return 0;
    for (int i = 0; i < l->kinds; i++)
        if (l->statistics[i] == LAYER_NORM) return 0;
    return 1;
}

/* From how many items a thread they are shared out whole. With fewer the threads end too far apart, the more so as all but one come late. */
#define WHOLE_ITEMS 4

/* `gram` has begun; `solves`: how many times the work of a solve the small algebra is. Returns 1 when memory ran out. */
static int pairs_run(struct pairs *k, task_fn small, void *context, int maps, int solves, int threads) {
    const struct shape *s = &k->gram.s;
    k->small = small, k->context = context;
    k->size = chunk(s->group), k->count = s->images * k->gram.groups, k->items = chunks(k->count, s->group);
    mix_begin(&k->map);
    const int passes = 1 + (maps ? k->gram.dy ? 2 : 1 : 0);
    const int team = sw_team_worth(passes * multiply_adds(s) + (double)solves * SOLVE_PRODUCTS * k->count * s->group * s->group * s->group, threads);
    k->sums = k->size * k->gram.segments, k->maps = maps ? k->size * k->map.segments : 0;
    if (team == 1 || k->items >= WHOLE_ITEMS * team) {
        sw_team_run(pairs_item, k, k->items, team);
        return 0;
    }
    k->done = calloc(k->items, sizeof *k->done);
    if (!k->done) return 1;
    k->lead = 2 + team / k->sums; /* enough for all threads, and to have something to do until the first item can be mapped */
    if (k->lead > k->items) k->lead = k->items;
    sw_team_run(pairs_task, k, k->items * (k->sums + k->maps), team);
    free(k->done);
    return 0;
}

static int forward_by_pairs(struct layer *l, const struct shape *s, const float *x, const float *shift, float *mean, float *cov, float *y, int threads) {
    struct forward small;
    struct pairs k = {.gram = gram_of_moments(x, shift, mean, cov, s), .map = mix_of_affine(x, l->a, l->b, 0, y, s)};
    int failed = gram_begin(&k.gram) | forward_begin(&small, l);
    if (!failed) failed = pairs_run(&k, forward_item, &small, 1, 1, threads);
    gram_end(&k.gram);
    forward_end(&small);
    return failed;
}

/* The small algebra of an item, and what goes through its images' own statistics. */
static void spread_item(void *context, long item) {
    const struct backward *k = context;
    const int group = k->batch.group;
    backward_item(context, item);
    for (long at = item * chunk(group); at < (item + 1) * chunk(group) && at < k->batch.count; at++) spread_pair(k, at, 0);
}

static int backward_by_pairs(struct layer *l, const struct shape *s, const float *dy, const float *x, float *m, float *sums, float *dx, int threads) {
    struct backward small;
    struct pairs k = {.gram = gram_of_products(dy, x, l->shift, m, sums, s), .map = mix_of_combine(dy, x, l->a, 1, l->grad_b, l->grad_c, 0, dx, s)};
    int failed = gram_begin(&k.gram) | backward_begin(&small, l);
    if (!failed) failed = pairs_run(&k, spread_item, &small, dx != 0, 2, threads);
    if (!failed) parameter_gradients(&small, 0, 0);
    gram_end(&k.gram);
    backward_end(&small);
    return failed;
}
