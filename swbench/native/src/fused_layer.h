/* One call of a whole whitening layer, forward or backward. */
#ifndef SW_FUSED_LAYER_H
#define SW_FUSED_LAYER_H

/* The layer and the shape of its input: the same in all calls for inputs of one shape. */
struct fused_layer {
    long images, channels, pixels,
        centre; /* `centre`: the pixel of every image whose values serve as its shift */
    int group, channels_last, element; /* `element`: enum element of x, y and their gradients */
    const int *statistics;
    int kinds, uses_batch, uses_image, training;
    float eps, fresh; /* `fresh`: the share of the new value in the running statistics */
};

/* The tensors of one call; null where the layer has none, or a gradient is not wanted. */
struct tensors {
    const void *x, *dy;
    void *y, *dx;
    float *workspace; /* sw_workspace floats, written by forward; backward reads it, x, dy and
                       nothing else */
    float *running_mean, *running_cov;
    const float *gamma, *beta, *mean_logits, *cov_logits;
    float *grad_gamma, *grad_beta, *grad_mean_logits, *grad_cov_logits;
};

#define EXPORT __attribute__((visibility("default")))

/* Floats of workspace that a call needs. */
EXPORT long sw_workspace(const struct fused_layer *);

/* The arguments are plain, because filling a structure from Python would cost more than the call.
 * Both functions return 1 when memory ran out. */
EXPORT int sw_forward(const struct fused_layer *, const void *x, void *y, float *workspace,
                      float *running_mean, float *running_cov, const float *gamma,
                      const float *beta, const float *mean_logits, const float *cov_logits,
                      int threads);
EXPORT int sw_backward(const struct fused_layer *, const void *dy, const void *x, float *workspace,
                       void *dx, float *grad_gamma, float *grad_beta, float *grad_mean_logits,
                       float *grad_cov_logits, int threads);

#endif
