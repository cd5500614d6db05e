/* The layer where no group of an image asks for anything of another: one loop over them, so that a group is mapped while it is still in the cache,
   and threads are called once and not for every pass. Pass by pass or in this way, results are the same to the last bit. */
#include "algebra.h"
#include "team.h"
#include "tensor.h"

struct forward_pairs {
    struct gram gram;
    struct forward small;
    struct mix map;
};

struct backward_pairs {
    struct gram gram;
    struct backward small;
    struct mix map;
    int maps; /* whether dx is asked for */
};

static long first_of(long item, int group) { return item * chunk(group); }
static long end_of(long item, int group, long count) { return first_of(item + 1, group) < count ? first_of(item + 1, group) : count; }

static void forward_pairs_item(void *context, long item) {
    const struct forward_pairs *k = context;
    const long groups = k->gram.groups, first = first_of(item, k->gram.s.group), end = end_of(item, k->gram.s.group, k->small.batch.count);
    for (long at = first; at < end; at++) gram_pair(&k->gram, at / groups, at % groups);
    forward_item((void *)&k->small, item);
    for (long at = first; at < end; at++) mix_pair(&k->map, at / groups, at % groups);
}

static void backward_pairs_item(void *context, long item) {
    const struct backward_pairs *k = context;
    const long groups = k->gram.groups, first = first_of(item, k->gram.s.group), end = end_of(item, k->gram.s.group, k->small.batch.count);
    for (long at = first; at < end; at++) gram_pair(&k->gram, at / groups, at % groups);
    backward_item((void *)&k->small, item);
    for (long at = first; at < end; at++) spread_pair(&k->small, at, 0);
    for (long at = first; k->maps && at < end; at++) mix_pair(&k->map, at / groups, at % groups);
}

/* The team for `passes` products of every pixel and `solves` times the work of a solve; 0 where there are too few groups to share out among it. */
static int team_of_pairs(const struct layer *l, const struct shape *s, int passes, int solves, int threads) {
    if (!l->mean || l->batch_mean) return 0;
    for (int i = 0; i < l->kinds; i++)
        if (l->statistics[i] == LAYER_NORM) return 0;
    const double pairs = (double)s->images * l->groups;
    const int team = sw_team_worth(passes * multiply_adds(s) + (double)solves * SOLVE_PRODUCTS * pairs * s->group * s->group * s->group, threads);
    return team == 1 || chunks(s->images * l->groups, s->group) >= 2 * team ? team : 0;
}

static int forward_by_pairs(struct layer *l, const struct shape *s, const float *x, const float *shift, float *mean, float *cov, float *y, int team) {
    struct forward_pairs k = {.gram = gram_of_moments(x, shift, mean, cov, s), .map = mix_of_affine(x, l->a, l->b, 0, y, s)};
    const int failed = gram_begin(&k.gram) | forward_begin(&k.small, l);
    mix_begin(&k.map);
    if (!failed) sw_team_run(forward_pairs_item, &k, chunks(k.small.batch.count, s->group), team);
    gram_end(&k.gram);
    forward_end(&k.small);
    return failed;
}

static int backward_by_pairs(struct layer *l, const struct shape *s, const float *dy, const float *x, float *m, float *sums, float *dx, int team) {
    struct backward_pairs k = {.gram = gram_of_products(dy, x, l->shift, m, sums, s), .maps = dx != 0};
    const int failed = gram_begin(&k.gram) | backward_begin(&k.small, l);
    k.map = mix_of_combine(dy, x, l->a, 1, l->grad_b, l->grad_c, 0, dx, s);
    mix_begin(&k.map);
    if (!failed) {
        sw_team_run(backward_pairs_item, &k, chunks(k.small.batch.count, s->group), team);
        parameter_gradients(&k.small, 0, 0);
    }
    gram_end(&k.gram);
    backward_end(&k.small);
    return failed;
}
