/* Small square matrices, in one of two layouts.
   rows  (lanes = 1):  one n × n matrix, n a multiple of VL, a row is n / VL vectors.
   lanes (lanes = VL): VL matrices side by side, element (i, j) of all of them is vector i·n + j, n
   a multiple of 4. */
#ifndef SW_SMALL_H
#define SW_SMALL_H
#include "transpose.h"
#include "vector.h"

/* c = a b, or c += a b with `add`. c must not overlap a or b. */
INLINE void rows_product(const float *a, const float *b, float *c, const int n, const int add) {
    enum { MOST = 16 };
    const int vectors = n / VL, across = vectors % 2 == 0 ? 2 : vectors % 3 == 0 ? 3 : 1;
    const int down = across == 1 ? REGISTERS / 2 : REGISTERS / 4;
    for (int j = 0; j < n; j += across * VL)
        for (int i = 0; i < n; i += down) {
            vec t[MOST][3];
            for (int r = 0; r < down; r++)
                for (int v = 0; v < across; v++)
                    t[r][v] = add ? *(const vec *)(c + (i + r) * n + j + v * VL) : (vec){0};
            for (int k = 0; k < n; k++)
                for (int v = 0; v < across; v++) {
                    const vec right = *(const vec *)(b + k * n + j + v * VL);
                    for (int r = 0; r < down; r++) t[r][v] += a[(i + r) * n + k] * right;
                }
            for (int r = 0; r < down; r++)
                for (int v = 0; v < across; v++) *(vec *)(c + (i + r) * n + j + v * VL) = t[r][v];
        }
}

INLINE void lanes_product(const float *left, const float *right, float *out, const int n,
                          const int add) {
    enum { DOWN = 4, ACROSS = REGISTERS == 32 ? 4 : 2 };
    const vec *a = (const vec *)left, *b = (const vec *)right;
    vec *c = (vec *)out;
    for (int i = 0; i < n; i += DOWN)
        for (int j = 0; j < n; j += ACROSS) {
            vec t[DOWN][ACROSS];
            for (int r = 0; r < DOWN; r++)
                for (int v = 0; v < ACROSS; v++) t[r][v] = add ? c[(i + r) * n + j + v] : (vec){0};
            for (int k = 0; k < n; k++)
                for (int v = 0; v < ACROSS; v++) {
                    const vec q = b[k * n + j + v];
                    for (int r = 0; r < DOWN; r++) t[r][v] += a[(i + r) * n + k] * q;
                }
            for (int r = 0; r < DOWN; r++)
                for (int v = 0; v < ACROSS; v++) c[(i + r) * n + j + v] = t[r][v];
        }
}

#define PRODUCTS(kind, n)                                                                          \
    static __attribute__((noinline)) void kind##_product_##n(const float *a, const float *b,       \
                                                             float *c) {                           \
        kind##_product(a, b, c, n, 0);                                                             \
    }                                                                                              \
    static __attribute__((noinline)) void kind##_product_add_##n(const float *a, const float *b,   \
                                                                 float *c) {                       \
        kind##_product(a, b, c, n, 1);                                                             \
    }
PRODUCTS(rows, 16)
PRODUCTS(rows, 32)
PRODUCTS(rows, 48)
PRODUCTS(rows, 64)
PRODUCTS(lanes, 4)
PRODUCTS(lanes, 8)
PRODUCTS(lanes, 12)
#undef PRODUCTS

#define PICK(name)                                                                                 \
    (lanes > 1 ? (n == 4   ? lanes_##name##_4                                                      \
                  : n == 8 ? lanes_##name##_8                                                      \
                           : lanes_##name##_12)                                                    \
               : (n == 16   ? rows_##name##_16                                                     \
                  : n == 32 ? rows_##name##_32                                                     \
                  : n == 48 ? rows_##name##_48                                                     \
                            : rows_##name##_64))

INLINE void times(const float *a, const float *b, float *c, const int n, const int lanes) {
    PICK(product)(a, b, c);
}
INLINE void times_add(const float *a, const float *b, float *c, const int n, const int lanes) {
    PICK(product_add)(a, b, c);
}

/* The vector of row i of the identity that starts at column j (rows), or the whole element (lanes).
 */
INLINE vec identity(int i, int j, const int lanes) {
    static const float window[2 * VL + 1] = {[VL] = 1.0f};
    if (lanes > 1) return (vec){0} + (i == j ? 1.0f : 0.0f);
    return i >= j && i < j + VL ? load(window + VL - (i - j)) : (vec){0};
}

/* Runs `body` for each vector: `e` is its offset, `eye` the same vector of the identity. */
#define FOR_VECTORS(body)                                                                          \
    for (int i = 0, e = 0; i < n; i++)                                                             \
        for (int j = 0; j < n; j += lanes > 1 ? 1 : VL, e += VL) {                                 \
            const vec eye = identity(i, j, lanes);                                                 \
            (void)eye;                                                                             \
            body;                                                                                  \
        }
#define AT(p) (*(vec *)((p) + e))

/* t = aᵀ. t must not overlap a. */
INLINE void transpose(const float *a, float *t, const int n, const int lanes) {
    if (lanes > 1) {
        for (int i = 0; i < n; i++)
            for (int j = 0; j < n; j++) ((vec *)t)[j * n + i] = ((const vec *)a)[i * n + j];
        return;
    }
    for (int i = 0; i < n; i += VL)
        for (int j = 0; j < n; j += VL) block_transpose(a + i * n + j, n, t + j * n + i, n);
}

/* h = αI + βm + γm², with m² in `square`. */
INLINE void polynomial(const float *coefficients, const float *m, const float *square, float *h,
                       const int n, const int lanes) {
    const float alpha = coefficients[0], beta = coefficients[1], gamma = coefficients[2];
    FOR_VECTORS(AT(h) = alpha * eye + beta * AT(m) + gamma * AT(square))
}

/* Sum of squares of a − shift·I: that of each lane's matrix (lanes), or that of the one matrix in
 * all lanes (rows). */
INLINE vec squares(const float *a, float shift, const int n, const int lanes) {
    vec sum = {0};
    FOR_VECTORS(const vec d = AT(a) - shift * eye; sum += d * d)
    if (lanes == 1) sum = (vec){0} + lanes_sum(sum);
    return sum;
}

#endif
