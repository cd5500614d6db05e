/* The small algebra on the way back: from Σ dy xᵀ to B, c and the parameters' gradients. */
#include <stdlib.h>

#include "algebra.h"
#include "team.h"
#include "vector.h"

struct backward {
    struct layer *l;
    struct batch batch;
    float *grad_w, *d_mean, *gamma; /* (n, g, G, G), (n, g, G), (n, g, G) */
};

static void backward_item(void *context, long item) {
    const struct backward *k = context;
    const struct layer *l = k->l;
    const int group = l->group;
    const long start = item * chunk(group), end = start + chunk(group) < k->batch.count ? start + chunk(group) : k->batch.count;
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
                const long from = image * l->groups + at; /* with matrices of its own, the image is in `at` */
                const float here = l->s[from * group + i], *shift = l->shift + from * group, *m = l->m + (from * group + i) * group;
                sum += here;
                for (int j = 0; j < group; j++) row[j] += m[j] - here * (mean[j] - shift[j]);
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

/* dx of one image and group through one source, ∂Σ its factors times d_cov and `more` on the diagonal: B += 2·scale·∂Σ, c += scale·∂μ − B μ. */
static void pass_on(const float *d_cov, const double *d_mean, const float *mean, const struct factors *f, int from, double more, double scale, int group, float *b, float *c) {
    const float full = (float)(2 * scale * f->full[from]);
    for (int i = 0; i < group; i++) {
        float row[MAX_GROUP];
        for (int j = 0; j < group; j++) row[j] = full * d_cov[i * group + j];
        row[i] = (float)(2 * scale * (f->diagonal[from] * d_cov[i * group + i] + more));
        for (int j = 0; j < group; j++) b[i * group + j] += row[j];
        c[i] += (float)(scale * d_mean[i]) - dot(row, mean, group);
    }
}

static void softmax_gradient(const double *weights, const double *towards, int count, float *grad) {
    double mean = 0;
    for (int k = 0; k < count; k++) mean += weights[k] * towards[k];
    for (int k = 0; grad && k < count; k++) grad[k] = (float)(weights[k] * (towards[k] - mean));
}

/* `room`: G·G floats for a sum over images. */
static void spread(const struct layer *l, const struct factors *f, const float *d_cov, const float *d_mean, float *room) {
    const int group = l->group, square = group * group;
    const long channels = l->groups * group, sets = l->shared ? 1 : l->images;
    double towards_mean[3] = {0}, towards_full[2] = {0}, towards_diagonal[3] = {0}; /* of batch, image, and the whole image */
    for (long e = 0; e < sets * channels; e++) l->grad_c[e] = 0;
    for (long e = 0; e < sets * channels * group; e++) l->grad_b[e] = 0;
    for (long n = 0; n < sets; n++) {
        double centre = 0, var = 0, d_var = 0, d_centre = 0, trace = 0, all = 0;
        if (f->layer_mean != 0 || f->layer_cov != 0) {
            layer_moments(l, n, &centre, &var);
            for (long c = 0; c < channels; c++) {
                const double here = d_mean[n * channels + c];
                trace += d_cov[(n * channels + c) * group + c % group];
                all += here;
                towards_mean[2] += here * (centre - l->shift[n * channels + c]);
            }
            towards_diagonal[2] += trace * var;
            d_var = trace * f->layer_cov / channels, d_centre = all * f->layer_mean / channels;
        }
        for (long g = 0; g < l->groups; g++) {
            const long at = n * l->groups + g;
            for (int from = 0; from < 2; from++) {
                const float *mean = from == OF_BATCH ? l->batch_mean : l->mean, *cov = from == OF_BATCH ? l->batch_cov : l->cov;
                if (!mean) continue;
                const long source = from == OF_BATCH ? g : at;
                double sum = 0, diagonal = 0, towards = 0;
                for (int i = 0; i < group; i++) {
                    sum += dot(d_cov + at * square + i * group, cov + source * square + i * group, group);
                    diagonal += d_cov[at * square + i * group + i] * cov[source * square + i * group + i];
                    towards += d_mean[at * group + i] * (mean[source * group + i] - l->shift[at * group + i]);
                }
                towards_full[from] += sum, towards_diagonal[from] += diagonal, towards_mean[from] += towards;
            }
            if (!l->mean) continue;
            double d_image[MAX_GROUP];
            for (int i = 0; i < group; i++) d_image[i] = f->mean[OF_IMAGE] * d_mean[at * group + i] + 2 * d_var * (l->mean[at * group + i] - centre) + d_centre;
            pass_on(d_cov + at * square, d_image, l->mean + at * group, f, OF_IMAGE, d_var, l->per_pixel, group, l->grad_b + at * square, l->grad_c + at * group);
        }
    }
    for (long g = 0; l->batch_mean && l->share != 0 && g < l->groups; g++) {
        double sum[MAX_GROUP] = {0};
        for (int e = 0; e < square; e++) room[e] = 0;
        for (long n = 0; n < sets; n++) {
            const long at = n * l->groups + g;
            for (int i = 0; i < group; i++) sum[i] += f->mean[OF_BATCH] * d_mean[at * group + i];
            for (int e = 0; e < square; e++) room[e] += d_cov[at * square + e];
        }
        float b[MAX_GROUP * MAX_GROUP], c[MAX_GROUP];
        for (int e = 0; e < square; e++) b[e] = 0;
        for (int i = 0; i < group; i++) c[i] = 0;
        pass_on(room, sum, l->batch_mean + g * group, f, OF_BATCH, 0, l->per_pixel * l->share, group, b, c);
        for (long n = 0; n < sets; n++) {
            const long at = n * l->groups + g;
            for (int e = 0; e < square; e++) l->grad_b[at * square + e] += b[e];
            for (int i = 0; i < group; i++) l->grad_c[at * group + i] += c[i];
        }
    }
    double mean[MAX_STATISTICS], cov[MAX_STATISTICS];
    for (int k = 0; k < l->kinds; k++) {
        const int kind = l->statistics[k], from = kind == LAYER_NORM ? 2 : source_of(kind, l);
        mean[k] = towards_mean[from];
        cov[k] = kind == BATCH_WHITEN || kind == IMAGE_WHITEN ? towards_full[from] : towards_diagonal[from];
    }
    softmax_gradient(f->mean_weights, mean, l->kinds, l->grad_mean_logits);
    softmax_gradient(f->cov_weights, cov, l->kinds, l->grad_cov_logits);
}

static int small_gradients(struct layer *l, int threads) {
    const struct factors f = factors_of(l);
    const int group = l->group, square = group * group;
    const long channels = l->groups * group, count = (l->shared ? 1 : l->images) * l->groups, sets = l->shared ? 1 : l->images;
    float *room = malloc(sizeof(float) * (2 * count * square + 2 * count * group + square));
    if (!room) return 1;
    float *grad_w = room, *d_cov = grad_w + count * square, *d_mean = d_cov + count * square, *gamma = d_mean + count * group, *rest = gamma + count * group;
    struct backward k = {.l = l, .grad_w = grad_w, .d_mean = d_mean, .gamma = gamma};
    k.batch = (struct batch){.w = l->w, .norms = l->norm, .grad_w = grad_w, .out = d_cov, .count = count, .group = group};
    sw_team_run(backward_item, &k, chunks(count, group), solve_team(2 * count, group, threads));
    for (long c = 0; c < channels; c++) {
        double of_gamma = 0, of_beta = 0;
        for (long n = 0; n < sets; n++) of_gamma += gamma[n * channels + c];
        for (long n = 0; n < l->images; n++) of_beta += l->s[n * channels + c];
        if (l->grad_gamma) l->grad_gamma[c] = (float)of_gamma;
        if (l->grad_beta) l->grad_beta[c] = (float)of_beta;
    }
    spread(l, &f, d_cov, d_mean, rest);
    free(room);
    return 0;
}
