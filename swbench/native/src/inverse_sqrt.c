/* W = Σ^(-1/2) of many small matrices by the coupled minimax quintic, and its gradient by the
 * coupled sign iteration. */
#include <math.h>
#include <string.h>

#include "jacobi.h"
#include "schedule.h"
#include "small.h"
#include "dispatch.h"
#include "threads.h"

#define NEAR 1e-3f     /* ‖ZY − I‖_F up to which one cubic step ends at rounding: 3/4·NEAR² */
#define MARGIN 1.0001f /* keeps rounding from putting an eigenvalue above 1 */
#define EXTRA                                                                                      \
    14 /* most Taylor steps after the schedule: each reaches 1.875 times lower, all κ = 1e12 */
#define FLOOR 1e-7
#define FIRST 1 /* the schedule of six quintics, for √λ ≥ 1.4e-3 of the normalised Σ */

struct batch {
    const float *cov, *w, *grad_w;
    float *out, *norm;
    const float *norms;
    long count;
    int group;
};

/* Copies the batch's matrices from `first` on into the layout, padded with zeros. */
INLINE void gather(const float *in, long first, long count, int group, float *a, const int n,
                   const int lanes) {
    in += first * group * group;
    if (lanes > 1 || group < n)
        for (int e = 0; e < n * n * lanes; e += VL) *(vec *)(a + e) = (vec){0};
    if (lanes == 1) {
        for (int i = 0; i < group; i++) memcpy(a + i * n, in + i * group, sizeof(float) * group);
        return;
    }
    for (int l = 0; l < lanes && first + l < count; l++)
        for (int i = 0; i < group; i++)
            for (int j = 0; j < group; j++) a[(i * n + j) * lanes + l] = *in++;
}

INLINE void scatter(const float *a, long first, long count, int group, float *out, const int n,
                    const int lanes) {
    out += first * group * group;
    if (lanes == 1) {
        for (int i = 0; i < group; i++) memcpy(out + i * group, a + i * n, sizeof(float) * group);
        return;
    }
    for (int l = 0; l < lanes && first + l < count; l++)
        for (int i = 0; i < group; i++)
            for (int j = 0; j < group; j++) *out++ = a[(i * n + j) * lanes + l];
}

/* The largest of the finite lanes. */
INLINE float largest(vec v) {
    float t[VL] ALIGNED, most = 0;
    store(t, v);
    for (int i = 0; i < VL; i++) most = t[i] > most && t[i] < INFINITY ? t[i] : most;
    return most;
}

INLINE vec lanes_sqrt(vec v) {
    float t[VL] ALIGNED;
    store(t, v);
    for (int i = 0; i < VL; i++) t[i] = sqrtf(t[i]);
    return load(t);
}

/* One quintic step of the pair Y, Z, given M = ZY. */
INLINE void advance(const float *step, const float *m, float *h, float *spare, float **y, float **z,
                    float **free_, const int n, const int lanes) {
    times(m, m, spare, n, lanes);
    polynomial(step, m, spare, h, n, lanes);
    float *new_y = *free_, *new_z = *y;
    times(*y, h, new_y, n, lanes);
    times(h, *z, new_z, n, lanes);
    *free_ = *z, *y = new_y, *z = new_z;
}

enum { SOLVE_WORKSPACE = 6, GRADIENT_WORKSPACE = 9 };

INLINE void solve(const struct batch *k, long start, const int n, const int lanes, float *scratch) {
    const int group = k->group, size = n * n * lanes;
    float *y = scratch, *z = scratch + size, *free_ = scratch + 2 * size, *m = scratch + 3 * size,
          *h = scratch + 4 * size, *spare = scratch + 5 * size;
    gather(k->cov, start, k->count, group, y, n, lanes);
    const vec norm = MARGIN * lanes_sqrt(squares(y, 0, n, lanes)), inverse = 1.0f / norm;
    FOR_VECTORS(AT(y) = AT(y) * inverse + (i < group ? 0.0f : 1.0f) * eye)
    times(y, y, spare, n, lanes);
    polynomial(first[FIRST], y, spare, z, n, lanes);
    times(y, z, free_, n, lanes);
    float *swap = y;
    y = free_, free_ = swap;
    for (int step = FIRST + 1; step < QUINTICS; step++) {
        times(z, y, m, n, lanes);
        advance(quintic[step], m, h, spare, &y, &z, &free_, n, lanes);
    }
    times(z, y, m, n, lanes);
    vec left = squares(m, 1, n, lanes);
    for (int extra = 0; extra < EXTRA && largest(left) > NEAR * NEAR && largest(left) < 4 * n;
         extra++) {
        advance(onwards, m, h, spare, &y, &z, &free_, n, lanes);
        times(z, y, m, n, lanes);
        left = squares(m, 1, n, lanes);
    }
    FOR_VECTORS(AT(h) = 1.5f * eye - 0.5f * AT(m))
    times(h, z, free_, n, lanes);
    transpose(free_, spare, n, lanes);
    const vec scale = 0.5f / lanes_sqrt(norm);
    FOR_VECTORS(AT(m) = (AT(free_) + AT(spare)) * scale)
    scatter(m, start, k->count, group, k->out, n, lanes);
    float missed[VL] ALIGNED, norms[VL] ALIGNED;
    store(missed, left);
    store(norms, norm);
    for (int l = 0; l < lanes && start + l < k->count; l++) {
        const long at = start + l;
        k->norm[at] = norms[l];
        if (!(missed[l] <= NEAR * NEAR))
            jacobi_inverse_sqrt(k->cov + at * group * group, k->out + at * group * group, group,
                                FLOOR);
    }
}

/* X = W Y W with Y W + W Y = −W sym(∂W) W, by the sign of [[B, E], [0, −B]], B = W/‖W‖: B → I and E
   → 2Y. E is symmetric, BE − EB skew. The iteration solves for Y and not for X itself: it is
   accurate to rounding times the norm of its result, and X holds λ^(-3/2) of all eigenvalues side
   by side. */
INLINE void gradient(const struct batch *k, long start, const int n, const int lanes,
                     float *scratch) {
    const int group = k->group, size = n * n * lanes;
    float *b = scratch, *next_b = scratch + size, *x = scratch + 2 * size,
          *next_x = scratch + 3 * size;
    float *m = scratch + 4 * size, *h = scratch + 5 * size, *skew = scratch + 6 * size,
          *t = scratch + 7 * size, *u = scratch + 8 * size;
    gather(k->w, start, k->count, group, b, n, lanes);
    gather(k->grad_w, start, k->count, group, x, n, lanes);
    const vec norm = MARGIN * lanes_sqrt(squares(b, 0, n, lanes)), inverse = 1.0f / norm;
    FOR_VECTORS(AT(b) = AT(b) * inverse + (i < group ? 0.0f : 1.0f) * eye)
    transpose(x, t, n, lanes);
    const vec scale = -0.5f * norm;
    FOR_VECTORS(AT(t) = (AT(x) + AT(t)) * scale)
    times(b, t, u, n, lanes);
    times(u, b, x, n, lanes);
    times(b, b, m, n, lanes);
    /* λ_min(B) = 1/(√λ_max(Σ) ‖W‖) tells how far the schedule must reach. */
    float roots[VL] ALIGNED, wide[VL] ALIGNED, low = 1;
    store(wide, norm);
    for (int l = 0; l < lanes && start + l < k->count; l++) {
        roots[l] = 1.0f / (wide[l] * sqrtf(k->norms[start + l]));
        low = roots[l] < low ? roots[l] : low;
    }
    int begin = LENGTHS - 1;
    while (begin > 0 && low < lowest[begin]) begin--;
    int ended = 0;
    for (int step = begin, extra = 0; !ended; step++) {
        const float *q = step == begin ? first[begin] : step < QUINTICS ? quintic[step] : onwards;
        if (step > begin) times(b, b, m, n, lanes);
        if (step >= QUINTICS) {
            const float left = largest(squares(m, 1, n, lanes));
            ended = left <= NEAR * NEAR || extra++ >= EXTRA;
        }
        times(b, x, t, n, lanes);
        transpose(t, u, n, lanes);
        FOR_VECTORS(AT(skew) = AT(t) - AT(u))
        if (ended) {
            FOR_VECTORS(AT(h) = 1.5f * eye - 0.5f * AT(m); AT(skew) = -0.5f * AT(skew))
        } else {
            times(m, m, t, n, lanes);
            polynomial(q, m, t, h, n, lanes);
            times(m, skew, t, n, lanes);
            transpose(t, u, n, lanes);
            FOR_VECTORS(AT(skew) = q[1] * AT(skew) + q[2] * (AT(t) - AT(u)))
            times(b, h, next_b, n, lanes);
        }
        times(b, skew, t, n, lanes);
        times_add(x, h, t, n, lanes);
        transpose(t, u, n, lanes);
        FOR_VECTORS(AT(next_x) = 0.5f * (AT(t) + AT(u)))
        float *swap = x;
        x = next_x, next_x = swap;
        swap = b, b = next_b, next_b = swap;
    }
    gather(k->w, start, k->count, group, b, n, lanes);
    times(b, x, t, n, lanes);
    times(t, b, u, n, lanes);
    transpose(u, t, n, lanes);
    FOR_VECTORS(AT(x) = 0.25f * (AT(u) + AT(t)))
    scatter(x, start, k->count, group, k->out, n, lanes);
}

/* The number of matrices in one item. Item i begins at matrix i·chunk. */
static int chunk(int group) { return group <= 12 ? VL : 1; }
static long chunks(long count, int group) { return (count + chunk(group) - 1) / chunk(group); }

/* Each size takes no more stack than its G needs. */
#define SIZED(function, arrays, n, lanes)                                                          \
    static __attribute__((noinline)) void function##_##n(const struct batch *k, long start) {      \
        float scratch[(arrays) * (n) * (n) * (lanes)] ALIGNED;                                     \
        function(k, start, n, lanes, scratch);                                                     \
    }
#define LAYOUTS(function, arrays)                                                                  \
    SIZED(function, arrays, 4, VL)                                                                 \
    SIZED(function, arrays, 8, VL)                                                                 \
    SIZED(function, arrays, 12, VL)                                                                \
    SIZED(function, arrays, 16, 1)                                                                 \
    SIZED(function, arrays, 32, 1)                                                                 \
    SIZED(function, arrays, 48, 1)                                                                 \
    SIZED(function, arrays, 64, 1)                                                                 \
    static void function##_item(void *context, long item) {                                        \
        const struct batch *k = context;                                                           \
        const int group = k->group;                                                                \
        const long start = item * chunk(group);                                                    \
        (group <= 4    ? function##_4                                                              \
         : group <= 8  ? function##_8                                                              \
         : group <= 12 ? function##_12                                                             \
         : group <= 16 ? function##_16                                                             \
         : group <= 32 ? function##_32                                                             \
         : group <= 48 ? function##_48                                                             \
                       : function##_64)(k, start);                                                 \
    }
LAYOUTS(solve, SOLVE_WORKSPACE)
LAYOUTS(gradient, GRADIENT_WORKSPACE)
#undef LAYOUTS
#undef SIZED

/* About the number of matrix products in a solve; its gradient has nearly twice as many. */
#define SOLVE_PRODUCTS 24
static int solve_threads(long count, int group, int threads) {
    return sw_useful_threads((double)SOLVE_PRODUCTS * count * group * group * group, threads);
}

static void inverse_sqrt(const float *cov, float *w, float *norm, long count, int group,
                         int threads) {
    struct batch k = {.cov = cov, .out = w, .norm = norm, .count = count, .group = group};
    sw_parallel_for(solve_item, &k, chunks(count, group), solve_threads(count, group, threads));
}

static void inverse_sqrt_gradient(const float *w, const float *norm, const float *grad_w,
                                  float *grad_cov, long count, int group, int threads) {
    struct batch k = {
        .w = w, .norms = norm, .grad_w = grad_w, .out = grad_cov, .count = count, .group = group};
    sw_parallel_for(gradient_item, &k, chunks(count, group),
                    solve_threads(2 * count, group, threads));
}
