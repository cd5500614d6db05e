/* Sums and maps a layer group by group, where groups do not depend on each other. The threads are
 * called once, not for every pass. A group is mapped soon after its sums, while it is still in a
 * cache. Results are bit-identical to running the passes one after the other. isa.c includes this
 * file after those that it uses. */
#include <sched.h>
#include <stdlib.h>

#include "algebra.h"
#include "threads.h"
#include "tensor.h"

/* An item is the part of the input that has to be summed before any of it can be mapped. With a
 * batch statistic it is one group of all images. Otherwise it is one pair of image and group, or as
 * many pairs as a vector holds. */
struct pipeline {
    struct gram gram;
    struct affine_map map;
    task_fn small;
    void *context;
    int grouped;
    long count, items, size; /* pairs, items, pairs in an item */
    long sums, maps;         /* tasks of an item; no maps where dx is not wanted */
    long begun;              /* sums that come before the first map */
    int *done;               /* finished sums of every item, then READY */
};

enum { READY = -1, PATIENCE = 4096 };

struct pair {
    long n, g;
};

static long pairs_in_item(const struct pipeline *k, long item) {
    const long left = k->count - item * k->size;
    return k->grouped || left > k->size ? k->size : left;
}

static struct pair pair_of(const struct pipeline *k, long item, long i) {
    const long at = item * k->size + i, groups = k->gram.groups;
    return k->grouped ? (struct pair){i, item} : (struct pair){at / groups, at % groups};
}

/* Sums and maps an item on one thread. When the thread maps the item, its own cache still holds the
 * data it has read, the last part above all. */
static void pipeline_item(void *context, long item) {
    const struct pipeline *k = context;
    const long count = pairs_in_item(k, item);
    for (long i = 0; i < count; i++)
        gram_pair(&k->gram, pair_of(k, item, i).n, pair_of(k, item, i).g);
    k->small(k->context, item);
    for (long i = count - 1; k->maps && i >= 0; i--)
        map_pair(&k->map, pair_of(k, item, i).n, pair_of(k, item, i).g);
}

static void sum_task(const struct pipeline *k, long task) {
    const long item = task / k->sums, segments = k->gram.segments, i = task % k->sums / segments,
               count = pairs_in_item(k, item);
    const struct pair pair = pair_of(k, item, i);
    if (i < count) gram_segment(&k->gram, pair.n, pair.g, task % segments);
    /* The thread that finishes last adds the segments up, always in the same order. */
    if (__atomic_add_fetch(&k->done[item], 1, __ATOMIC_ACQ_REL) != k->sums) return;
    for (long j = 0; j < count; j++) finish(&k->gram, pair_of(k, item, j).n, pair_of(k, item, j).g);
    k->small(k->context, item);
    __atomic_store_n(&k->done[item], READY, __ATOMIC_RELEASE);
}

static void map_task(const struct pipeline *k, long item, long task) {
    const long segments = k->map.segments,
               i = pairs_in_item(k, item) - 1 - task / segments; /* the end was read last */
    const struct pair pair = pair_of(k, item, i);
    /* Wait for the sums of the item. This ends: tasks start in order, so running threads have
     * started all sums of the item. On a busy machine one of these threads may need this core, so
     * it is yielded after PATIENCE tries. */
    for (int tries = 0; __atomic_load_n(&k->done[item], __ATOMIC_ACQUIRE) != READY;)
        if (tries < PATIENCE)
            tries++;
        else
            sched_yield();
    if (i >= 0) map_segment(&k->map, pair.n, pair.g, segments - 1 - task % segments);
}

/* The order of the tasks. First `begun` sums. Then, while sums are left, in turn all maps of one
 * item and as many sums as an item has. Then the remaining maps. */
static void pipeline_task(void *context, long index) {
    const struct pipeline *k = context;
    if (index < k->begun) return sum_task(k, index);
    index -= k->begun;
    const long both = k->sums + k->maps, rest = k->items * k->sums - k->begun,
               turns = rest / k->sums, last = rest % k->sums;
    const long turn = index / both < turns ? index / both : turns, task = index - turn * both;
    if (turn < turns || task < k->maps + last) {
        if (task < k->maps)
            map_task(k, turn, task);
        else
            sum_task(k, k->begun + turn * k->sums + task - k->maps);
    } else
        map_task(k, turn + (task - last) / k->maps, (task - last) % k->maps);
}

static int has_layer_statistic(const struct layer *l) {
    for (int i = 0; i < l->kinds; i++)
        if (l->statistics[i] == LAYER_NORM) return 1;
    return 0;
}

/* Whether no pair of image and group depends on another. */
static int pairs_are_independent(const struct layer *l) {
    return l->mean && !l->batch_mean && !has_layer_statistic(l);
}

/* Whether no group depends on another, while the images of a group depend on each other. False
 * where several matrices are solved at once, because the matrices of a group do not lie side by
 * side. False also where the channels of a pixel lie side by side, because each group would fetch
 * the pixels again. */
static int groups_are_independent(const struct layer *l, const struct shape *s) {
    return l->batch_mean && chunk(l->group) == 1 && !s->channels_last && !has_layer_statistic(l);
}

/* With at least so many items per thread, each item is worked on by one thread. With fewer, some
 * threads would end long before others (all but the calling thread also start late), so the items
 * are split into tasks. */
#define ITEMS_A_THREAD 4

/* Runs a pipeline whose `gram` has begun. `solves` is the cost of the algebra of one
 * matrix, in solves. Returns 1 when memory ran out. */
static int pipeline_run(struct pipeline *k, const struct layer *l, task_fn small, void *context,
                        int maps, int solves, int threads) {
    const struct shape *s = &k->gram.s;
    k->small = small, k->context = context, k->grouped = groups_are_independent(l, s);
    k->size = k->grouped ? s->images : chunk(s->group), k->count = s->images * k->gram.groups;
    k->items = k->grouped ? k->gram.groups : chunks(k->count, s->group);
    map_begin(&k->map);
    const int passes = 1 + (maps ? k->gram.dy ? 2 : 1 : 0);
    const int used_threads = sw_useful_threads(passes * multiply_adds(s) +
                                                   (double)solves * SOLVE_PRODUCTS * sets_of(l) *
                                                       l->groups * s->group * s->group * s->group,
                                               threads);
    k->sums = k->size * k->gram.segments, k->maps = maps ? k->size * k->map.segments : 0;
    if (used_threads == 1 || k->items >= ITEMS_A_THREAD * used_threads) {
        sw_parallel_for(pipeline_item, k, k->items, used_threads);
        return 0;
    }
    k->done = calloc(k->items, sizeof *k->done);
    if (!k->done) return 1;
    /* Enough sums to occupy all threads until the first item can be mapped. If an item is a group
     * of all images, no more than that: the item would leave the cache before it is mapped. */
    k->begun = k->grouped ? k->sums + used_threads : (2 + used_threads / k->sums) * k->sums;
    if (k->begun > k->items * k->sums) k->begun = k->items * k->sums;
    sw_parallel_for(pipeline_task, k, k->items * (k->sums + k->maps), used_threads);
    free(k->done);
    return 0;
}

struct forward_work {
    struct forward forward;
    const struct shape *s;
    const float *mean, *cov;
    float *batch_mean, *batch_cov; /* results of the merge, or null */
};

static void forward_work_item(void *context, long item) {
    const struct forward_work *k = context;
    const struct layer *l = k->forward.l;
    if (!groups_are_independent(l, k->s)) return forward_item((void *)&k->forward, item);
    if (k->batch_mean) merge(k->s, k->mean, k->cov, k->batch_mean, k->batch_cov, item);
    for (long n = 0; n < sets_of(l); n++) forward_item((void *)&k->forward, n * l->groups + item);
}

/* Computes y from x. `batch_mean` is null where there is no batch to merge. */
static int forward_pipeline(struct layer *l, const struct shape *s, const void *x,
                            const float *shift, float *mean, float *cov, float *batch_mean,
                            float *batch_cov, void *y, int threads) {
    struct forward_work small = {
        .s = s, .mean = mean, .cov = cov, .batch_mean = batch_mean, .batch_cov = batch_cov};
    struct pipeline k = {.gram = gram_of_moments(x, shift, mean, cov, s),
                         .map = map_of_affine(x, l->a, l->b, l->shared, y, s)};
    int failed = gram_begin(&k.gram) | forward_begin(&small.forward, l);
    if (!failed) failed = pipeline_run(&k, l, forward_work_item, &small, 1, 1, threads);
    gram_end(&k.gram);
    forward_end(&small.forward);
    return failed;
}

struct backward_work {
    struct backward backward;
    const struct shape *s;
};

/* The small algebra of an item, and the gradient through its statistics. */
static void backward_work_item(void *context, long item) {
    const struct backward_work *work = context;
    const struct backward *k = &work->backward;
    const struct layer *l = k->l;
    const int grouped = groups_are_independent(l, work->s);
    const long first = grouped ? item : item * chunk(l->group), step = grouped ? l->groups : 1;
    const long end = grouped || first + chunk(l->group) > k->batch.count ? k->batch.count
                                                                         : first + chunk(l->group);
    for (long at = first; grouped && at < end; at += step) backward_item((void *)k, at);
    if (!grouped) backward_item((void *)k, item);
    for (long at = first; at < end; at += step) distribute_pair(k, at, 0);
    if (grouped && l->share != 0) distribute_batch(k, item);
}

static int backward_pipeline(struct layer *l, const struct shape *s, const void *dy, const void *x,
                             float *m, float *sums, void *dx, int threads) {
    struct backward_work small = {.s = s};
    struct pipeline k = {
        .gram = gram_of_products(dy, x, l->shift, m, sums, s),
        .map = map_of_combine(dy, x, l->a, 1, l->grad_b, l->grad_c, l->shared, dx, s)};
    int failed = gram_begin(&k.gram) | backward_begin(&small.backward, l);
    if (!failed) failed = pipeline_run(&k, l, backward_work_item, &small, dx != 0, 2, threads);
    if (!failed) parameter_gradients(&small.backward, 0, 0);
    gram_end(&k.gram);
    backward_end(&small.backward);
    return failed;
}
