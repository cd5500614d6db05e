/* The complete layer in one call forward and one backward; isa.c includes this file. Forward:
 * moments of x, merge over the batch, mixture and solve, map, update of the running statistics.
 * Backward: products of dy and x, gradients of the small matrices, map. */
#include <stdlib.h>
#include <string.h>

#include "algebra.h"
#include "dispatch.h"
#include "tensor.h"
#include "fused_layer.h"

static struct shape shape_of_fused(const struct fused_layer *k) {
    return (struct shape){k->images, k->channels,      k->pixels,
                          k->group,  k->channels_last, k->element};
}

/* Parts of the workspace as pointers that may be written through; those of `struct layer` may not,
 * or are null where the layer does not use a part: the statistics, and the parameters as they were
 * in the forward pass. */
struct parts {
    float *shift, *mean, *cov, *batch_mean, *batch_cov, *gamma, *mean_logits, *cov_logits;
};

/* Sets the pointers to the parts of the workspace, in order, and returns the end of the workspace.
 * The end minus `workspace` is the number of floats. */
static float *lay_out(const struct fused_layer *k, float *workspace, struct layer *l,
                      struct parts *p) {
    const int single_image = k->training && k->images == 1 && k->uses_batch,
              images = single_image || k->uses_image;
    const long vectors = k->channels, matrices = k->channels * k->group;
    *l = (struct layer){.statistics = k->statistics,
                        .kinds = k->kinds,
                        .images = images ? k->images : 1,
                        .groups = k->channels / k->group,
                        .group = k->group};
    l->shared = !images, l->eps = k->eps, l->per_pixel = 1.0 / k->pixels;
    l->share = k->training && k->uses_batch ? 1.0 / k->images : 0;
    float *next = workspace;
    const long sets = l->images;
#define TAKE(count)                                                                                \
    next;                                                                                          \
    next += count
    p->shift = TAKE(k->images * vectors);
    p->mean = TAKE(k->images * vectors);
    p->cov = TAKE(k->images * matrices);
    p->batch_mean = TAKE(vectors);
    p->batch_cov = TAKE(matrices);
    l->a = TAKE(sets * matrices);
    l->w = TAKE(sets * matrices);
    l->b = TAKE(sets * vectors);
    l->mixed_mean = TAKE(sets * vectors);
    l->norm = TAKE(sets * l->groups);
    p->gamma = TAKE(vectors);
    p->mean_logits = TAKE(k->kinds);
    p->cov_logits = TAKE(k->kinds);
#undef TAKE
    l->gamma = p->gamma, l->mean_logits = p->mean_logits, l->cov_logits = p->cov_logits;
    l->shift = p->shift;
    if (images) l->mean = p->mean, l->cov = p->cov;
    if (k->uses_batch && !single_image) l->batch_mean = p->batch_mean, l->batch_cov = p->batch_cov;
    return next;
}

static void update(float *running, const float *value, float fresh, long count) {
    for (long i = 0; i < count; i++) running[i] += fresh * (value[i] - running[i]);
}

static void copy_or_fill(float *copy, const float *given, float otherwise, long count) {
    for (long i = 0; i < count; i++) copy[i] = given ? given[i] : otherwise;
}

/* Returns 1 when memory ran out. */
static int fused_forward(const struct fused_layer *k, const struct tensors *t, int threads) {
    struct layer l;
    struct parts p;
    lay_out(k, t->workspace, &l, &p);
    const struct shape s = shape_of_fused(k);
    copy_or_fill(p.gamma, t->gamma, 1, k->channels);
    copy_or_fill(p.mean_logits, t->mean_logits, 0, k->kinds);
    copy_or_fill(p.cov_logits, t->cov_logits, 0, k->kinds);
    l.beta = t->beta;
    for (long n = 0; n < k->images; n++)
        for (long c = 0; c < k->channels; c++)
            p.shift[n * k->channels + c] = one_of(
                at(t->x,
                   n * k->channels * k->pixels +
                       (k->channels_last ? k->centre * k->channels + c : c * k->pixels + k->centre),
                   k->element),
                k->element);
    const int summed = k->training || k->uses_image,
              merged = k->training && k->uses_batch && k->images > 1;
    if (k->uses_batch && !k->training) {
        memcpy(p.batch_mean, t->running_mean, sizeof(float) * k->channels);
        memcpy(p.batch_cov, t->running_cov, sizeof(float) * k->channels * k->group);
    }
    if (summed && (pairs_are_independent(&l) || groups_are_independent(&l, &s))) {
        if (forward_pipeline(&l, &s, t->x, p.shift, p.mean, p.cov, merged ? p.batch_mean : 0,
                             p.batch_cov, t->y, threads))
            return 1;
    } else {
        if (summed && moments(t->x, p.shift, p.mean, p.cov, &s, threads)) return 1;
        for (long g = 0; merged && g < l.groups; g++)
            merge(&s, p.mean, p.cov, p.batch_mean, p.batch_cov, g);
        if (mix_and_solve(&l, threads)) return 1;
        affine(t->x, l.a, l.b, l.shared, t->y, &s, threads);
    }
    if (k->uses_batch && k->training) {
        update(t->running_mean, merged ? p.batch_mean : p.mean, k->fresh, k->channels);
        update(t->running_cov, merged ? p.batch_cov : p.cov, k->fresh, k->channels * k->group);
    }
    return 0;
}

static int fused_backward(const struct fused_layer *k, const struct tensors *t, int threads) {
    struct layer l;
    struct parts p;
    lay_out(k, t->workspace, &l, &p);
    const struct shape s = shape_of_fused(k);
    const long vectors = k->images * k->channels, matrices = vectors * k->group;
    float *scratch = malloc(sizeof(float) * 2 * (vectors + matrices));
    if (!scratch) return 1;
    float *m = scratch, *sums = m + matrices;
    l.grad_b = sums + vectors, l.grad_c = l.grad_b + matrices;
    l.m = m, l.s = sums, l.images = k->images;
    l.grad_gamma = t->grad_gamma, l.grad_beta = t->grad_beta,
    l.grad_mean_logits = t->grad_mean_logits, l.grad_cov_logits = t->grad_cov_logits;
    /* `flows`: whether a gradient flows through the statistics. */
    const int flows = k->uses_image || l.share != 0,
              pipelined = flows && (pairs_are_independent(&l) || groups_are_independent(&l, &s));
    const int failed = pipelined ? backward_pipeline(&l, &s, t->dy, t->x, m, sums, t->dx, threads)
                                 : products(t->dy, t->x, p.shift, m, sums, &s, threads) ||
                                       small_gradients(&l, threads);
    if (!failed && !pipelined && t->dx) {
        if (flows)
            combine(t->dy, t->x, l.a, 1, l.grad_b, l.grad_c, l.shared, t->dx, &s, threads);
        else {
            struct affine_map map = map_of_transposed(t->dy, l.a, l.shared, t->dx, &s);
            map_run(&map, threads);
        }
    }
    free(scratch);
    return failed;
}

/* Floats of workspace that a call needs. */
static long fused_workspace_size(const struct fused_layer *k) {
    struct layer l;
    struct parts p;
    float start = 0;
    return lay_out(k, &start, &l, &p) - &start;
}
