/* One call of a whitening layer, there or back. */
#ifndef SW_WHOLE_H
#define SW_WHOLE_H

/* What all calls for inputs of one shape have in common. */
struct whole {
    long images, channels, pixels,
        centre; /* `centre`: the pixel of every image whose values serve as its shift */
    int group, channels_last, element; /* of enum element: of x, y and their gradients */
    const int *statistics;
    int kinds, uses_batch, uses_image, training;
    float eps, fresh; /* the share of the new value in the running statistics */
};

/* What one call reads and writes; null is what the layer has not, or nobody asks for. */
struct tensors {
    const void *x, *dy;
    void *y, *dx;
    float *room; /* sw_workspace floats, written on the way there; on the way back all that is read
                    beside x and dy */
    float *running_mean, *running_cov;
    const float *gamma, *beta, *mean_logits, *cov_logits;
    float *grad_gamma, *grad_beta, *grad_mean_logits, *grad_cov_logits;
};

#define EXPORT __attribute__((visibility("default")))

/* Floats of room that a call needs. */
EXPORT long sw_workspace(const struct whole *);

/* Plain arguments, for a caller to whom filling a structure costs more than the call. Returns 1
 * when memory ran out, as the way back does. */
EXPORT int sw_forward(const struct whole *, const void *x, void *y, float *room,
                      float *running_mean, float *running_cov, const float *gamma,
                      const float *beta, const float *mean_logits, const float *cov_logits,
                      int threads);
EXPORT int sw_backward(const struct whole *, const void *dy, const void *x, float *room, void *dx,
                       float *grad_gamma, float *grad_beta, float *grad_mean_logits,
                       float *grad_cov_logits, int threads);

#endif
