/* The exported functions: they pick the dispatch table for this processor at load time and pass the
 * call on.
 */
#include <string.h>

#include "dispatch.h"
#include "tensor.h"
#include "fused_layer.h"

#define TEXT(a) #a
#define QUOTED(a) TEXT(a)

static const struct dispatch *chosen = 0;

/* What the library was built from: swbench/native/sources.py. */
EXPORT const char *sw_sources(void) { return QUOTED(SOURCES); }

EXPORT const char *sw_compiler(void) {
#ifdef __clang__
    return __VERSION__;
#else
    return "GCC " __VERSION__;
#endif
}

static int runs(const struct dispatch *table) {
#ifdef HAVE_V4
    if (table == &sw_dispatch_v4)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512vl");
#endif
#ifdef HAVE_V3
    if (table == &sw_dispatch_v3)
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
               __builtin_cpu_supports("bmi2");
#endif
    return table == &sw_dispatch_generic;
}

static const struct dispatch *const tables[] = {
#ifdef HAVE_V4
    &sw_dispatch_v4,
#endif
#ifdef HAVE_V3
    &sw_dispatch_v3,
#endif
    &sw_dispatch_generic,
};

/* Makes the named instruction set the one in use, or the best with an empty name. Returns its name,
 * null if it is not here. */
EXPORT const char *sw_select(const char *name) {
    for (unsigned i = 0; i < sizeof tables / sizeof *tables; i++)
        if (runs(tables[i]) && (!*name || !strcmp(name, tables[i]->name)))
            return (chosen = tables[i])->name;
    return 0;
}

static struct shape shape_of(long images, long channels, long pixels, int group, int channels_last,
                             int element) {
    return (struct shape){images, channels, pixels, group, channels_last, element};
}

EXPORT int sw_moments(const void *x, const float *shift, float *mean, float *cov, long images,
                      long channels, long pixels, int group, int channels_last, int element,
                      int threads) {
    const struct shape s = shape_of(images, channels, pixels, group, channels_last, element);
    return chosen->moments(x, shift, mean, cov, &s, threads);
}

EXPORT int sw_products(const void *dy, const void *x, const float *shift, float *m, float *sums,
                       long images, long channels, long pixels, int group, int channels_last,
                       int element, int threads) {
    const struct shape s = shape_of(images, channels, pixels, group, channels_last, element);
    return chosen->products(dy, x, shift, m, sums, &s, threads);
}

EXPORT void sw_affine(const void *x, const float *a, const float *b, int shared, void *y,
                      long images, long channels, long pixels, int group, int channels_last,
                      int element, int threads) {
    const struct shape s = shape_of(images, channels, pixels, group, channels_last, element);
    chosen->affine(x, a, b, shared, y, &s, threads);
}

EXPORT void sw_combine(const void *dy, const void *x, const float *a, int transposed,
                       const float *b, const float *c, int shared, void *dx, long images,
                       long channels, long pixels, int group, int channels_last, int element,
                       int threads) {
    const struct shape s = shape_of(images, channels, pixels, group, channels_last, element);
    chosen->combine(dy, x, a, transposed, b, c, shared, dx, &s, threads);
}

EXPORT void sw_inverse_sqrt(const float *cov, float *w, float *norm, long count, int group,
                            int threads) {
    chosen->inverse_sqrt(cov, w, norm, count, group, threads);
}

EXPORT void sw_inverse_sqrt_gradient(const float *w, const float *norm, const float *grad_w,
                                     float *grad_cov, long count, int group, int threads) {
    chosen->inverse_sqrt_gradient(w, norm, grad_w, grad_cov, count, group, threads);
}

EXPORT int sw_mix_and_solve(struct layer *l, int threads) {
    return chosen->mix_and_solve(l, threads);
}

EXPORT int sw_small_gradients(struct layer *l, int threads) {
    return chosen->small_gradients(l, threads);
}

EXPORT long sw_workspace(const struct fused_layer *k) { return chosen->workspace_size(k); }

EXPORT int sw_forward(const struct fused_layer *k, const void *x, void *y, float *workspace,
                      float *running_mean, float *running_cov, const float *gamma,
                      const float *beta, const float *mean_logits, const float *cov_logits,
                      int threads) {
    const struct tensors t = {.x = x,
                              .y = y,
                              .workspace = workspace,
                              .running_mean = running_mean,
                              .running_cov = running_cov,
                              .gamma = gamma,
                              .beta = beta,
                              .mean_logits = mean_logits,
                              .cov_logits = cov_logits};
    return chosen->forward(k, &t, threads);
}

EXPORT int sw_backward(const struct fused_layer *k, const void *dy, const void *x, float *workspace,
                       void *dx, float *grad_gamma, float *grad_beta, float *grad_mean_logits,
                       float *grad_cov_logits, int threads) {
    const struct tensors t = {.x = x,
                              .dy = dy,
                              .dx = dx,
                              .workspace = workspace,
                              .grad_gamma = grad_gamma,
                              .grad_beta = grad_beta,
                              .grad_mean_logits = grad_mean_logits,
                              .grad_cov_logits = grad_cov_logits};
    return chosen->backward(k, &t, threads);
}
