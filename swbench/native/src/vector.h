/* One vector register: VL floats, by the vector extensions of GCC and clang. Also how many
 * registers a loop may keep. */
#ifndef SW_VECTOR_H
#define SW_VECTOR_H

#ifndef VL
#define VL 4
#endif

#if VL == 16 || defined(__aarch64__)
#define REGISTERS 32
#else
#define REGISTERS 16
#endif

/* Size of a tile of rows or pixels by vectors of channels: TP rows or pixels, TA vectors. */
#define TP (VL == 16 ? 16 : REGISTERS == 32 ? 12 : 6)
#define TA (VL == 16 ? 1 : 2)

typedef float vec __attribute__((vector_size(4 * VL), may_alias));
typedef float vec_anywhere __attribute__((vector_size(4 * VL), aligned(4), may_alias));

#define INLINE static inline __attribute__((always_inline))
#define ALIGNED __attribute__((aligned(64)))
#define MAX_GROUP 64

INLINE vec load(const float *p) { return *(const vec_anywhere *)p; }

INLINE void store(float *p, vec v) { *(vec_anywhere *)p = v; }

/* Sum of the lanes, halves first: log2(VL) roundings. */
INLINE float lanes_sum(vec v) {
    float t[VL] ALIGNED;
    store(t, v);
    for (int width = VL / 2; width > 0; width /= 2)
        for (int i = 0; i < width; i++) t[i] += t[i + width];
    return t[0];
}

#endif
