/* The small algebra of the forward pass: from statistics to A and b in one call, where torch needs
 * dozens. The backward pass is in gradients.c. */
#include <math.h>
#include <stdlib.h>

#include "algebra.h"
#include "dispatch.h"
#include "threads.h"
#include "vector.h"

enum { OF_BATCH, OF_IMAGE };

/* Factors of the mean, the covariance and the covariance's diagonal of each source; `layer_*` are
 * the factors of the layer statistic. */
struct factors {
    double mean_weights[MAX_STATISTICS], cov_weights[MAX_STATISTICS];
    double mean[2], full[2], diagonal[2], layer_mean, layer_cov;
};

static void softmax(const float *logits, int count, double *weights) {
    double most = -INFINITY, total = 0;
    for (int k = 0; logits && k < count; k++) most = logits[k] > most ? logits[k] : most;
    for (int k = 0; k < count; k++) total += weights[k] = logits ? exp(logits[k] - most) : 1.0;
    for (int k = 0; k < count; k++) weights[k] /= total;
}

/* The source of statistic `kind`; with one source there is no choice. */
static int source_of(int kind, const struct layer *l) {
    if (!l->batch_mean) return OF_IMAGE;
    if (!l->mean) return OF_BATCH;
    return kind == BATCH_WHITEN || kind == BATCH_NORM ? OF_BATCH : OF_IMAGE;
}

static struct factors factors_of(const struct layer *l) {
    struct factors f = {0};
    softmax(l->mean_logits, l->kinds, f.mean_weights);
    softmax(l->cov_logits, l->kinds, f.cov_weights);
    for (int k = 0; k < l->kinds; k++) {
        const int kind = l->statistics[k], from = source_of(kind, l);
        if (kind == LAYER_NORM) {
            f.layer_mean = f.mean_weights[k], f.layer_cov = f.cov_weights[k];
            continue;
        }
        f.mean[from] += f.mean_weights[k];
        f.diagonal[from] += f.cov_weights[k];
        if (kind == BATCH_WHITEN || kind == IMAGE_WHITEN) f.full[from] += f.cov_weights[k];
    }
    return f;
}

/* Mean and variance of a whole image, from the moments of its channels. */
static void layer_moments(const struct layer *l, long n, double *centre, double *var) {
    const long channels = l->groups * l->group;
    const float *mean = l->mean + n * channels, *cov = l->cov + n * channels * l->group;
    double sum = 0, squares = 0;
    for (long c = 0; c < channels; c++) sum += mean[c];
    *centre = sum / channels;
    for (long c = 0; c < channels; c++) {
        const double deviation = mean[c] - *centre;
        squares += deviation * deviation + cov[c * l->group + c % l->group];
    }
    *var = squares / channels;
}

/* The batch's mean and covariance of one group (Chan, Golub and LeVeque 1983): the mean of the
 * images' covariances plus the covariance of their means. */
static void merge(const struct shape *s, const float *mean, const float *cov, float *batch_mean,
                  float *batch_cov, long g) {
    const int group = s->group;
    const double share = 1.0 / s->images;
    float *centre = batch_mean + g * group;
    for (int i = 0; i < group; i++) {
        double sum = 0;
        for (long n = 0; n < s->images; n++) sum += mean[n * s->channels + g * group + i];
        centre[i] = (float)(sum * share);
    }
    for (int i = 0; i < group; i++) {
        double row[MAX_GROUP] = {0};
        for (long n = 0; n < s->images; n++) {
            const float *image = mean + n * s->channels + g * group;
            const double deviation = image[i] - centre[i];
            for (int j = 0; j < group; j++)
                row[j] += cov[(n * s->channels + g * group + i) * group + j] +
                          deviation * (image[j] - centre[j]);
        }
        for (int j = 0; j < group; j++)
            batch_cov[(g * group + i) * group + j] = (float)(row[j] * share);
    }
}

INLINE float dot(const float *a, const float *b, int count) {
    vec sum = {0};
    int i = 0;
    for (; i + VL <= count; i += VL) sum += load(a + i) * load(b + i);
    float rest = 0;
    for (; i < count; i++) rest += a[i] * b[i];
    return lanes_sum(sum) + rest;
}

static void mix(const struct layer *l, const struct factors *f, long n, long g, double centre,
                double var, float *mean, float *cov) {
    const int group = l->group;
    const long at[2] = {g, n * l->groups + g};
    const float *means[2] = {l->batch_mean, l->mean}, *covs[2] = {l->batch_cov, l->cov};
    for (int i = 0; i < group; i++) {
        double m = f->layer_mean * centre;
        for (int from = 0; from < 2; from++)
            if (means[from]) m += f->mean[from] * means[from][at[from] * group + i];
        mean[i] = (float)m;
    }
    for (int e = 0; e < group * group; e++) cov[e] = 0;
    for (int from = 0; from < 2; from++) {
        if (!covs[from]) continue;
        const float *source = covs[from] + at[from] * group * group, full = (float)f->full[from],
                    diagonal = (float)(f->diagonal[from] - f->full[from]);
        for (int e = 0; e < group * group; e++) cov[e] += full * source[e];
        for (int i = 0; i < group; i++) cov[i * group + i] += diagonal * source[i * group + i];
    }
    const float more = l->eps + (float)(f->layer_cov * var);
    for (int i = 0; i < group; i++) cov[i * group + i] += more;
}

struct forward {
    struct layer *l;
    struct factors f;
    double *centre, *var; /* (N), or null */
    struct batch batch;
    float *cov;
};

static long sets_of(const struct layer *l) { return l->shared ? 1 : l->images; }

static int has_layer(const struct factors *f) { return f->layer_mean != 0 || f->layer_cov != 0; }

static void forward_item(void *context, long item) {
    const struct forward *k = context;
    struct layer *l = k->l;
    const int group = l->group;
    const long start = item * chunk(group),
               end = start + chunk(group) < k->batch.count ? start + chunk(group) : k->batch.count;
    for (long at = start; at < end; at++) {
        const long n = at / l->groups;
        mix(l, &k->f, n, at % l->groups, k->var ? k->centre[n] : 0, k->var ? k->var[n] : 0,
            l->mixed_mean + at * group, k->cov + at * group * group);
    }
    solve_item((void *)&k->batch, item);
    for (long at = start; at < end; at++) {
        const float *w = l->w + at * group * group, *mean = l->mixed_mean + at * group;
        for (int i = 0; i < group; i++) {
            const long c = at % l->groups * group + i;
            const float gamma = l->gamma ? l->gamma[c] : 1.0f;
            float *a = l->a + (at * group + i) * group;
            for (int j = 0; j < group; j++) a[j] = gamma * w[i * group + j];
            l->b[at * group + i] = (l->beta ? l->beta[c] : 0.0f) - dot(a, mean, group);
        }
    }
}

/* Returns 1 when memory ran out, as `backward_begin` does. */
static int forward_begin(struct forward *k, struct layer *l) {
    const long count = sets_of(l) * l->groups;
    *k = (struct forward){
        .l = l, .f = factors_of(l), .cov = malloc(sizeof(float) * count * l->group * l->group)};
    k->batch = (struct batch){
        .cov = k->cov, .out = l->w, .norm = l->norm, .count = count, .group = l->group};
    return !k->cov;
}

static void forward_end(struct forward *k) {
    free(k->centre);
    free(k->cov);
}

static int mix_and_solve(struct layer *l, int threads) {
    struct forward k;
    int failed = forward_begin(&k, l);
    if (!failed && has_layer(&k.f)) {
        k.centre = malloc(sizeof(double) * 2 * l->images), k.var = k.centre + l->images;
        failed = !k.centre;
        for (long n = 0; !failed && n < l->images; n++)
            layer_moments(l, n, k.centre + n, k.var + n);
    }
    if (!failed)
        sw_parallel_for(forward_item, &k, chunks(k.batch.count, l->group),
                        solve_threads(k.batch.count, l->group, threads));
    forward_end(&k);
    return failed;
}
