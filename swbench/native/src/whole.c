/* The layer in one call each way: moments, merge, running statistics, mixture, solve, map; and products, small gradients, map. */
#include <stdlib.h>
#include <string.h>

#include "algebra.h"
#include "table.h"
#include "tensor.h"
#include "whole.h"

static struct shape shape_of_whole(const struct whole *k) { return (struct shape){k->images, k->channels, k->pixels, k->group, k->channels_last}; }

/* The room's parts in order; with a null room the pointers are offsets from it and the end is the number of floats. */
static float *lay_out(const struct whole *k, struct layer *l, float **shift, float **mean, float **cov, float **batch_mean, float **batch_cov) {
    const int alone = k->training && k->images == 1 && k->uses_batch, images = alone || k->uses_image;
    const long vectors = k->channels, matrices = k->channels * k->group;
    *l = (struct layer){.statistics = k->statistics, .kinds = k->kinds, .images = images ? k->images : 1, .groups = k->channels / k->group, .group = k->group};
    l->shared = !images, l->eps = k->eps, l->per_pixel = 1.0 / k->pixels;
    l->share = k->training && k->uses_batch ? 1.0 / k->images : 0;
    l->gamma = k->gamma, l->beta = k->beta, l->mean_logits = k->mean_logits, l->cov_logits = k->cov_logits;
    float *next = k->room;
    const long sets = l->images;
#define TAKE(count) next; next += count
    *shift = TAKE(k->images * vectors);
    *mean = TAKE(k->images * vectors);
    *cov = TAKE(k->images * matrices);
    *batch_mean = TAKE(vectors);
    *batch_cov = TAKE(matrices);
    l->a = TAKE(sets * matrices);
    l->w = TAKE(sets * matrices);
    l->b = TAKE(sets * vectors);
    l->mixed_mean = TAKE(sets * vectors);
    l->norm = TAKE(sets * l->groups);
#undef TAKE
    l->shift = *shift;
    if (images) l->mean = *mean, l->cov = *cov;
    if (k->uses_batch && !alone) l->batch_mean = *batch_mean, l->batch_cov = *batch_cov;
    return next;
}

/* Chan, Golub and LeVeque 1983: the mean of the covariances and the covariance of the means. */
static void merge(const struct whole *k, const float *mean, const float *cov, float *batch_mean, float *batch_cov) {
    const long channels = k->channels;
    const int group = k->group;
    const double share = 1.0 / k->images;
    for (long c = 0; c < channels; c++) {
        double sum = 0;
        for (long n = 0; n < k->images; n++) sum += mean[n * channels + c];
        batch_mean[c] = (float)(sum * share);
    }
    for (long c = 0; c < channels; c++) {
        double row[MAX_GROUP] = {0};
        const float *first = batch_mean + c / group * group;
        for (long n = 0; n < k->images; n++) {
            const float *image = mean + n * channels + c / group * group;
            const double apart = image[c % group] - batch_mean[c];
            for (int j = 0; j < group; j++) row[j] += cov[(n * channels + c) * group + j] + apart * (image[j] - first[j]);
        }
        for (int j = 0; j < group; j++) batch_cov[c * group + j] = (float)(row[j] * share);
    }
}

static void update(float *running, const float *value, float fresh, long count) {
    for (long i = 0; i < count; i++) running[i] += fresh * (value[i] - running[i]);
}

/* Returns 1 when memory ran out, as the way back does. */
static int whole_forward(struct whole *k, int threads) {
    struct layer l;
    float *shift, *mean, *cov, *batch_mean, *batch_cov;
    lay_out(k, &l, &shift, &mean, &cov, &batch_mean, &batch_cov);
    const struct shape s = shape_of_whole(k);
    for (long n = 0; n < k->images; n++)
        for (long c = 0; c < k->channels; c++) shift[n * k->channels + c] = k->x[n * k->channels * k->pixels + (k->channels_last ? k->centre * k->channels + c : c * k->pixels + k->centre)];
    if ((k->training || k->uses_image) && moments(k->x, shift, mean, cov, &s, threads)) return 1;
    if (k->uses_batch && k->training) {
        if (k->images > 1) merge(k, mean, cov, batch_mean, batch_cov);
        update(k->running_mean, k->images > 1 ? batch_mean : mean, k->fresh, k->channels);
        update(k->running_cov, k->images > 1 ? batch_cov : cov, k->fresh, k->channels * k->group);
    } else if (k->uses_batch) {
        memcpy(batch_mean, k->running_mean, sizeof(float) * k->channels);
        memcpy(batch_cov, k->running_cov, sizeof(float) * k->channels * k->group);
    }
    if (mix_and_solve(&l, threads)) return 1;
    affine(k->x, l.a, l.b, l.shared, k->y, &s, threads);
    return 0;
}

static int whole_backward(struct whole *k, int threads) {
    struct layer l;
    float *shift, *mean, *cov, *batch_mean, *batch_cov;
    lay_out(k, &l, &shift, &mean, &cov, &batch_mean, &batch_cov);
    const struct shape s = shape_of_whole(k);
    const long vectors = k->images * k->channels, matrices = vectors * k->group;
    float *room = malloc(sizeof(float) * 2 * (vectors + matrices));
    if (!room) return 1;
    float *m = room, *sums = m + matrices;
    l.grad_b = sums + vectors, l.grad_c = l.grad_b + matrices;
    l.m = m, l.s = sums, l.images = k->images;
    l.grad_gamma = k->grad_gamma, l.grad_beta = k->grad_beta, l.grad_mean_logits = k->grad_mean_logits, l.grad_cov_logits = k->grad_cov_logits;
    const int failed = products(k->dy, k->x, shift, m, sums, &s, threads) || small_gradients(&l, threads);
    if (!failed && k->dx) {
        if (k->uses_image || l.share != 0)
            combine(k->dy, k->x, l.a, 1, l.grad_b, l.grad_c, l.shared, k->dx, &s, threads);
        else
            mapped_back(k->dy, l.a, l.shared, k->dx, &s, threads);
    }
    free(room);
    return failed;
}

/* Floats of room that a call needs; the pointers are not looked at. */
static long whole_room(const struct whole *k) {
    struct whole empty = *k;
    struct layer l;
    float *shift, *mean, *cov, *batch_mean, *batch_cov, nothing = 0;
    empty.room = &nothing;
    return lay_out(&empty, &l, &shift, &mean, &cov, &batch_mean, &batch_cov) - &nothing;
}
