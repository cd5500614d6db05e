/* The dispatch table of one instruction set: the same functions, compiled once for each. */
#ifndef SW_DISPATCH_H
#define SW_DISPATCH_H

struct layer;
struct shape;
struct tensors;
struct fused_layer;

struct dispatch {
    const char *name;
    int (*moments)(const void *x, const float *shift, float *mean, float *cov,
                   const struct shape *s, int threads);
    int (*products)(const void *dy, const void *x, const float *shift, float *m, float *sums,
                    const struct shape *s, int threads);
    void (*affine)(const void *x, const float *a, const float *b, int shared, void *y,
                   const struct shape *s, int threads);
    void (*combine)(const void *dy, const void *x, const float *a, int transposed, const float *b,
                    const float *c, int shared, void *dx, const struct shape *s, int threads);
    void (*inverse_sqrt)(const float *cov, float *w, float *norm, long count, int group,
                         int threads);
    void (*inverse_sqrt_gradient)(const float *w, const float *norm, const float *grad_w,
                                  float *grad_cov, long count, int group, int threads);
    int (*mix_and_solve)(struct layer *l, int threads);
    int (*small_gradients)(struct layer *l, int threads);
    long (*workspace_size)(const struct fused_layer *k);
    int (*forward)(const struct fused_layer *k, const struct tensors *t, int threads);
    int (*backward)(const struct fused_layer *k, const struct tensors *t, int threads);
};

extern const struct dispatch sw_dispatch_v4, sw_dispatch_v3, sw_dispatch_generic;

#endif
