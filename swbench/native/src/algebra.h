/* Inputs and outputs of the small algebra of a whitening layer, forward and backward. Names as in
 * swbench.norms.kernels.algebra. */
#ifndef SW_ALGEBRA_H
#define SW_ALGEBRA_H

enum statistic { BATCH_WHITEN, IMAGE_WHITEN, BATCH_NORM, IMAGE_NORM, LAYER_NORM };
enum { MAX_STATISTICS = 8 };

struct layer {
    const int *statistics; /* (kinds) of enum statistic, in the order of the weights */
    int kinds;
    long images, groups; /* N, g */
    int group, shared;   /* G; whether all images share one set of matrices */
    float eps;
    double per_pixel,
        share; /* 1 / (H·W); the share of one image in the batch, 0 for constant statistics */
    const float *mean, *cov, *batch_mean,
        *batch_cov; /* (N, g, G), (N, g, G, G), (g, G), (g, G, G); the batch's are null where the
                       batch is a single image */
    const float *gamma, *beta, *mean_logits,
        *cov_logits;                      /* (C), (C), (kinds), (kinds), each or null */
    float *a, *b, *w, *mixed_mean, *norm; /* results of forward, read by backward */
    const float *m, *s,
        *shift; /* Σ dy (x − shift)ᵀ and Σ dy of every image, and its shift (N, C) */
    float *grad_b, *grad_c, *grad_gamma, *grad_beta, *grad_mean_logits, *grad_cov_logits;
};

#endif
