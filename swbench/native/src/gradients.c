/* The small algebra of the backward pass: from Σ dy xᵀ to B, c and the gradients of the
 * parameters. */
#include <stdlib.h>

#include "algebra.h"
#include "threads.h"
#include "vector.h"

/* Terms whose sums are the gradients of the mixture's weights, by source. */
struct weight_sums {
    double mean[2], full[2], diagonal[2];
};

struct backward {
    struct layer *l;
    struct factors f;
    struct batch batch;
    float *grad_w, *d_cov, *d_mean, *gamma; /* (n, g, G, G) the first two, (n, g, G) the others */
    struct weight_sums *weight_sums;        /* (n, g) */
};

static void backward_item(void *context, long item) {
    const struct backward *k = context;
    const struct layer *l = k->l;
    const int group = l->group;
    const long start = item * chunk(group),
               end = start + chunk(group) < k->batch.count ? start + chunk(group) : k->batch.count;
    for (long at = start; at < end; at++) {
        const long g = at % l->groups, images = l->shared ? l->images : 1;
        const float *mean = l->mixed_mean + at * group, *w = l->w + at * group * group;
        float *d_mean = k->d_mean + at * group;
        for (int j = 0; j < group; j++) d_mean[j] = 0;
        for (int i = 0; i < group; i++) {
            const float gamma = l->gamma ? l->gamma[g * group + i] : 1.0f;
            float row[MAX_GROUP], sum = 0;
            for (int j = 0; j < group; j++) row[j] = 0;
            for (long image = 0; image < images; image++) {
                /* Where each image has its own matrices, `at` includes the image. */
                const long from = image * l->groups + at;
                const float sum_dy = l->s[from * group + i], *shift = l->shift + from * group,
                            *m = l->m + (from * group + i) * group;
                sum += sum_dy;
                for (int j = 0; j < group; j++) row[j] += m[j] - sum_dy * (mean[j] - shift[j]);
            }
            for (int j = 0; j < group; j++) {
                k->grad_w[(at * group + i) * group + j] = row[j] * gamma;
                d_mean[j] -= l->a[(at * group + i) * group + j] * sum;
            }
            k->gamma[at * group + i] = dot(row, w + i * group, group);
        }
    }
    gradient_item((void *)&k->batch, item);
}

/* Adds the part of dx of one image and group that flows through one source: B += 2·scale·∂Σ, c +=
 * scale·∂μ − 2·scale·∂Σ μ. ∂Σ is d_cov times the factors of the source, plus `more` on the
 * diagonal. */
static void pass_on(const float *d_cov, const double *d_mean, const float *mean,
                    const struct factors *f, int from, double more, double scale, int group,
                    float *b, float *c) {
    const float full = (float)(2 * scale * f->full[from]);
    for (int i = 0; i < group; i++) {
        float row[MAX_GROUP];
        for (int j = 0; j < group; j++) row[j] = full * d_cov[i * group + j];
        row[i] = (float)(2 * scale * (f->diagonal[from] * d_cov[i * group + i] + more));
        for (int j = 0; j < group; j++) b[i * group + j] += row[j];
        c[i] += (float)(scale * d_mean[i]) - dot(row, mean, group);
    }
}

static void softmax_gradient(const double *weights, const double *sums, int count, float *grad) {
    double mean = 0;
    for (int k = 0; k < count; k++) mean += weights[k] * sums[k];
    for (int k = 0; grad && k < count; k++) grad[k] = (float)(weights[k] * (sums[k] - mean));
}

/* The mean of a whole image, and the gradients of its mean and variance, which are terms of the
 * gradients of its channels. */
struct image_gradient {
    double centre, d_centre, d_var;
};

/* Computes B, c and the terms of the weights for one image and group, without the contribution of
 * the batch's statistics. `image` is null without a layer statistic. */
static void distribute_pair(const struct backward *k, long at, const struct image_gradient *image) {
    const struct layer *l = k->l;
    const int group = l->group, square = group * group;
    const float *d_cov = k->d_cov + at * square, *d_mean = k->d_mean + at * group,
                *shift = l->shift + at * group;
    float *b = l->grad_b + at * square, *c = l->grad_c + at * group;
    for (int e = 0; e < square; e++) b[e] = 0;
    for (int i = 0; i < group; i++) c[i] = 0;
    struct weight_sums *to = k->weight_sums + at;
    *to = (struct weight_sums){0};
    for (int from = 0; from < 2; from++) {
        const long source = from == OF_BATCH ? at % l->groups : at;
        if (!(from == OF_BATCH ? l->batch_mean : l->mean)) continue;
        const float *mean = (from == OF_BATCH ? l->batch_mean : l->mean) + source * group,
                    *cov = (from == OF_BATCH ? l->batch_cov : l->cov) + source * square;
        for (int i = 0; i < group; i++) {
            to->full[from] += dot(d_cov + i * group, cov + i * group, group);
            to->diagonal[from] += d_cov[i * group + i] * cov[i * group + i];
            to->mean[from] += d_mean[i] * (mean[i] - shift[i]);
        }
    }
    if (!l->mean) return;
    const float *mean = l->mean + at * group;
    const struct image_gradient none = {0}, *layer_part = image ? image : &none;
    double d_image[MAX_GROUP];
    for (int i = 0; i < group; i++)
        d_image[i] = k->f.mean[OF_IMAGE] * d_mean[i] +
                     2 * layer_part->d_var * (mean[i] - layer_part->centre) + layer_part->d_centre;
    pass_on(d_cov, d_image, mean, &k->f, OF_IMAGE, layer_part->d_var, l->per_pixel, group, b, c);
}

/* Adds the gradient through the batch's statistics of group `g`, the same for every image. */
static void distribute_batch(const struct backward *k, long g) {
    const struct layer *l = k->l;
    const int group = l->group, square = group * group;
    double sum[MAX_GROUP] = {0};
    float d_cov[MAX_GROUP * MAX_GROUP], b[MAX_GROUP * MAX_GROUP], c[MAX_GROUP];
    for (int e = 0; e < square; e++) d_cov[e] = 0;
    for (long at = g; at < k->batch.count; at += l->groups) {
        for (int i = 0; i < group; i++) sum[i] += k->f.mean[OF_BATCH] * k->d_mean[at * group + i];
        for (int e = 0; e < square; e++) d_cov[e] += k->d_cov[at * square + e];
    }
    for (int e = 0; e < square; e++) b[e] = 0;
    for (int i = 0; i < group; i++) c[i] = 0;
    pass_on(d_cov, sum, l->batch_mean + g * group, &k->f, OF_BATCH, 0, l->per_pixel * l->share,
            group, b, c);
    for (long at = g; at < k->batch.count; at += l->groups) {
        for (int e = 0; e < square; e++) l->grad_b[at * square + e] += b[e];
        for (int i = 0; i < group; i++) l->grad_c[at * group + i] += c[i];
    }
}

/* Computes the gradients of γ, β and the weights. Those of the weights come from the terms of every
 * pair and, for the layer statistic, from `layer_mean` and `layer_diagonal`. */
static void parameter_gradients(const struct backward *k, double layer_mean,
                                double layer_diagonal) {
    const struct layer *l = k->l;
    const long channels = l->groups * l->group;
    for (long c = 0; c < channels; c++) {
        double grad_gamma = 0, grad_beta = 0;
        for (long n = 0; n < sets_of(l); n++) grad_gamma += k->gamma[n * channels + c];
        for (long n = 0; n < l->images; n++) grad_beta += l->s[n * channels + c];
        if (l->grad_gamma) l->grad_gamma[c] = (float)grad_gamma;
        if (l->grad_beta) l->grad_beta[c] = (float)grad_beta;
    }
    struct weight_sums all = {0};
    for (long at = 0; at < k->batch.count; at++)
        for (int from = 0; from < 2; from++) {
            const struct weight_sums *pair = k->weight_sums + at;
            all.mean[from] += pair->mean[from], all.full[from] += pair->full[from],
                all.diagonal[from] += pair->diagonal[from];
        }
    double mean[MAX_STATISTICS], cov[MAX_STATISTICS];
    for (int i = 0; i < l->kinds; i++) {
        const int kind = l->statistics[i], from = source_of(kind, l);
        mean[i] = kind == LAYER_NORM ? layer_mean : all.mean[from];
        cov[i] = kind == LAYER_NORM                             ? layer_diagonal
                 : kind == BATCH_WHITEN || kind == IMAGE_WHITEN ? all.full[from]
                                                                : all.diagonal[from];
    }
    softmax_gradient(k->f.mean_weights, mean, l->kinds, l->grad_mean_logits);
    softmax_gradient(k->f.cov_weights, cov, l->kinds, l->grad_cov_logits);
}

/* The gradients of the mean and variance of a whole image, from those of its channels. Adds the
 * terms of the layer statistic's weights to `layer_mean` and `layer_diagonal`. */
static struct image_gradient image_gradient_of(const struct backward *k, long n, double *layer_mean,
                                               double *layer_diagonal) {
    const struct layer *l = k->l;
    const long channels = l->groups * l->group;
    const float *d_cov = k->d_cov + n * channels * l->group, *d_mean = k->d_mean + n * channels;
    struct image_gradient image;
    double var, trace = 0, all = 0;
    layer_moments(l, n, &image.centre, &var);
    for (long c = 0; c < channels; c++) {
        trace += d_cov[c * l->group + c % l->group];
        all += d_mean[c];
        *layer_mean += d_mean[c] * (image.centre - l->shift[n * channels + c]);
    }
    *layer_diagonal += trace * var;
    image.d_var = trace * k->f.layer_cov / channels,
    image.d_centre = all * k->f.layer_mean / channels;
    return image;
}

static int backward_begin(struct backward *k, struct layer *l) {
    const long count = sets_of(l) * l->groups;
    const int group = l->group, square = group * group;
    *k = (struct backward){.l = l,
                           .f = factors_of(l),
                           .grad_w = malloc(sizeof(float) * 2 * count * (square + group)),
                           .weight_sums = malloc(sizeof(struct weight_sums) * count)};
    k->d_cov = k->grad_w + count * square, k->d_mean = k->d_cov + count * square,
    k->gamma = k->d_mean + count * group;
    k->batch = (struct batch){.w = l->w,
                              .norms = l->norm,
                              .grad_w = k->grad_w,
                              .out = k->d_cov,
                              .count = count,
                              .group = group};
    return !k->grad_w || !k->weight_sums;
}

static void backward_end(struct backward *k) {
    free(k->grad_w);
    free(k->weight_sums);
}

static int small_gradients(struct layer *l, int threads) {
    struct backward k;
    const int failed = backward_begin(&k, l);
    if (!failed) {
        sw_parallel_for(backward_item, &k, chunks(k.batch.count, l->group),
                        solve_threads(2 * k.batch.count, l->group, threads));
        double layer_mean = 0, layer_diagonal = 0;
        for (long n = 0; n < sets_of(l); n++) {
            struct image_gradient image;
            if (has_layer(&k.f)) image = image_gradient_of(&k, n, &layer_mean, &layer_diagonal);
            for (long g = 0; g < l->groups; g++)
                distribute_pair(&k, n * l->groups + g, has_layer(&k.f) ? &image : 0);
        }
        for (long g = 0; l->batch_mean && l->share != 0 && g < l->groups; g++)
            distribute_batch(&k, g);
        parameter_gradients(&k, layer_mean, layer_diagonal);
    }
    backward_end(&k);
    return failed;
}
