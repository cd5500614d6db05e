/* One call of a whitening layer, there or back. */
#ifndef SW_WHOLE_H
#define SW_WHOLE_H

struct whole {
    const float *x, *dy;
    float *y, *dx; /* dx null where nobody asks for it */
    float *room;   /* sw_room floats, written on the way there and read on the way back */
    long images, channels, pixels, centre; /* `centre`: the pixel of every image whose values serve as its shift */
    int group, channels_last;
    const int *statistics;
    int kinds, uses_batch, uses_image, training;
    float eps, fresh; /* the share of the new value in the running statistics */
    float *running_mean, *running_cov;
    const float *gamma, *beta, *mean_logits, *cov_logits;
    float *grad_gamma, *grad_beta, *grad_mean_logits, *grad_cov_logits;
};

#endif
