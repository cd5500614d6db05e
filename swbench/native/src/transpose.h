/* Transposes a VL × VL block in registers: log2(VL) rounds that swap the off-diagonal blocks of d ×
 * d (generated masks). */
#ifndef SW_TRANSPOSE_H
#define SW_TRANSPOSE_H
#include "vector.h"

#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define HAVE_SHUFFLE
#endif
#endif

#ifdef HAVE_SHUFFLE
/* Lane l of LOW(d): b[l-d] where l has bit d, else a[l]; of HIGH(d): b[l] where l has bit d, else
 * a[l+d]. */
#if VL == 16
#define LOW_1(a, b)                                                                                \
    __builtin_shufflevector(a, b, 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30)
#define HIGH_1(a, b)                                                                               \
    __builtin_shufflevector(a, b, 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31)
#define LOW_2(a, b)                                                                                \
    __builtin_shufflevector(a, b, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29)
#define HIGH_2(a, b)                                                                               \
    __builtin_shufflevector(a, b, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31)
#define LOW_4(a, b)                                                                                \
    __builtin_shufflevector(a, b, 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27)
#define HIGH_4(a, b)                                                                               \
    __builtin_shufflevector(a, b, 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31)
#define LOW_8(a, b)                                                                                \
    __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23)
#define HIGH_8(a, b)                                                                               \
    __builtin_shufflevector(a, b, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31)
#elif VL == 8
#define LOW_1(a, b) __builtin_shufflevector(a, b, 0, 8, 2, 10, 4, 12, 6, 14)
#define HIGH_1(a, b) __builtin_shufflevector(a, b, 1, 9, 3, 11, 5, 13, 7, 15)
#define LOW_2(a, b) __builtin_shufflevector(a, b, 0, 1, 8, 9, 4, 5, 12, 13)
#define HIGH_2(a, b) __builtin_shufflevector(a, b, 2, 3, 10, 11, 6, 7, 14, 15)
#define LOW_4(a, b) __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11)
#define HIGH_4(a, b) __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15)
#elif VL == 4
#define LOW_1(a, b) __builtin_shufflevector(a, b, 0, 4, 2, 6)
#define HIGH_1(a, b) __builtin_shufflevector(a, b, 1, 5, 3, 7)
#define LOW_2(a, b) __builtin_shufflevector(a, b, 0, 1, 4, 5)
#define HIGH_2(a, b) __builtin_shufflevector(a, b, 2, 3, 6, 7)
#endif

#define ROUND(d)                                                                                   \
    for (int i = 0; i < VL; i++)                                                                   \
        if (!(i & d)) {                                                                            \
            const vec a = r[i], b = r[i + d];                                                      \
            r[i] = LOW_##d(a, b);                                                                  \
            r[i + d] = HIGH_##d(a, b);                                                             \
        }
#define FOLD(d)                                                                                    \
    for (int i = 0; i < d; i++) r[i] = LOW_##d(r[i], r[i + d]) + HIGH_##d(r[i], r[i + d]);
#endif

/* Lane i is the sum of the lanes of in[i]. */
INLINE vec lanes_sums(const vec *in) {
#ifdef HAVE_SHUFFLE
    vec r[VL];
    for (int i = 0; i < VL; i++) r[i] = in[i];
#if VL > 8
    FOLD(8)
#endif
#if VL > 4
    FOLD(4)
#endif
    FOLD(2)
    FOLD(1)
    return r[0];
#else
    float t[VL] ALIGNED;
    for (int i = 0; i < VL; i++) t[i] = lanes_sum(in[i]);
    return load(t);
#endif
}

/* Lane j of r[i] and lane i of r[j] change places. */
INLINE void vectors_transpose(vec *r) {
#ifdef HAVE_SHUFFLE
    ROUND(1)
    ROUND(2)
#if VL > 4
    ROUND(4)
#endif
#if VL > 8
    ROUND(8)
#endif
#else
    for (int i = 0; i < VL; i++)
        for (int j = 0; j < i; j++) {
            const float other = r[i][j];
            r[i][j] = r[j][i];
            r[j][i] = other;
        }
#endif
}

INLINE void block_transpose(const float *in, long in_stride, float *out, long out_stride) {
    vec r[VL];
    for (int i = 0; i < VL; i++) r[i] = load(in + i * in_stride);
    vectors_transpose(r);
    for (int i = 0; i < VL; i++) store(out + i * out_stride, r[i]);
}

#endif
