/* One call of a whitening layer, there or back. */
#ifndef SW_WHOLE_H
#define SW_WHOLE_H

/* What all calls for inputs of one shape have in common. */
struct whole {
    long images, channels, pixels,
        centre; /* `centre`: the pixel of every image whose values serve as its shift */
    int group, channels_last;
    const int *statistics;
    int kinds, uses_batch, uses_image, training;
    float eps, fresh; /* the share of the new value in the running statistics */
};

/* What one call reads and writes; null is what the layer has not, or nobody asks for. */
struct tensors {
    const float *x, *dy;
    float *y, *dx;
    float *room; /* sw_workspace floats, written on the way there; on the way back all that is read
                    beside x and dy */
    float *running_mean, *running_cov;
    const float *gamma, *beta, *mean_logits, *cov_logits;
    float *grad_gamma, *grad_beta, *grad_mean_logits, *grad_cov_logits;
};

#endif
