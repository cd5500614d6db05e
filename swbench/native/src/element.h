/* The numbers of a full tensor: floats, or one of the 16-bit types. Numbers of 16 bits are widened
 * to float where they are read, and rounded to the nearest, ties to even, where they are written.
 */
#ifndef SW_ELEMENT_H
#define SW_ELEMENT_H
#include <stdint.h>
#include <string.h>

#include "vector.h"

#ifdef __F16C__
#include <immintrin.h>
#endif

enum element { FLOAT32, BFLOAT16, FLOAT16 };

INLINE int bytes_of(const int element) { return element == FLOAT32 ? 4 : 2; }

INLINE const void *at(const void *p, long index, const int element) {
    return (const char *)p + index * bytes_of(element);
}

typedef uint32_t bits __attribute__((vector_size(4 * VL), may_alias));
typedef uint16_t half __attribute__((may_alias));
typedef uint16_t halves __attribute__((vector_size(2 * VL), aligned(2), may_alias));

#if defined(__has_builtin)
#if __has_builtin(__builtin_convertvector)
#define HAVE_CONVERT
#endif
#endif

INLINE bits bits_of_halves(const half *p) {
#ifdef HAVE_CONVERT
    return __builtin_convertvector(*(const halves *)p, bits);
#else
    bits b;
    for (int i = 0; i < VL; i++) b[i] = p[i];
    return b;
#endif
}

INLINE void store_halves(half *p, bits b) {
#ifdef HAVE_CONVERT
    *(halves *)p = __builtin_convertvector(b, halves);
#else
    for (int i = 0; i < VL; i++) p[i] = (half)b[i];
#endif
}

INLINE bits chosen_bits(bits where, bits yes, bits no) { return (where & yes) | (~where & no); }

#define EXPONENTS(n)                                                                               \
    ((uint32_t)(n) << 23) /* adding this to a float's bits multiplies it by 2^n                    \
                           */

INLINE vec widened(const half *p, const int element) {
#if defined(__F16C__) && VL == 8
    if (element == FLOAT16) return (vec)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
#elif defined(__AVX512F__) && VL == 16
    if (element == FLOAT16) return (vec)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
#endif
    const bits b = bits_of_halves(p);
    if (element == BFLOAT16) return (vec)(b << 16);
    const bits size = (b & 0x7fff) << 13, exponent = size & EXPONENTS(31);
    const vec least = (vec)(EXPONENTS(113) + (bits){0});
    bits wide = size + EXPONENTS(112);
    wide += (bits)(exponent == EXPONENTS(31)) & EXPONENTS(112); /* ∞ and NaN */
    wide = chosen_bits((bits)(exponent == 0), (bits)((vec)(size + EXPONENTS(113)) - least), wide);
    return (vec)(wide | (b & 0x8000) << 16);
}

INLINE void rounded(half *p, vec v, const int element) {
#if defined(__F16C__) && VL == 8
    if (element == FLOAT16) {
        _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT));
        return;
    }
#elif defined(__AVX512F__) && VL == 16
    if (element == FLOAT16) {
        _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT));
        return;
    }
#endif
    const bits b = (bits)v, sign = b >> 31 << 31, size = b ^ sign;
    bits out;
    if (element == BFLOAT16) {
        out = (b + 0x7fff + (b >> 16 & 1)) >> 16;
        out = chosen_bits((bits)(v != v), b >> 16 | 0x40, out);
    } else {
        /* Adding 1/2 to a number that is subnormal in float16 puts its last bit where float rounds.
         */
        const vec one_half = (vec)(EXPONENTS(126) + (bits){0});
        out = (size - EXPONENTS(112) + 0xfff + (size >> 13 & 1)) >> 13;
        out = chosen_bits((bits)(size < EXPONENTS(113)),
                          (bits)((vec)size + one_half) - (bits)one_half, out);
        out = chosen_bits((bits)(size >= EXPONENTS(143)), 0x7c00 + (bits){0}, out);
        out = chosen_bits((bits)(v != v), 0x7e00 + (bits){0}, out) | sign >> 16;
    }
    store_halves(p, out);
}

INLINE vec load_as(const void *p, const int element) {
    return element == FLOAT32 ? load(p) : widened(p, element);
}

INLINE void store_as(void *p, vec v, const int element) {
    if (element == FLOAT32)
        store(p, v);
    else
        rounded(p, v, element);
}

/* `v` with zeros after its first `count` lanes. */
INLINE vec first_lanes(vec v, int count) {
    static const uint32_t ones[2 * VL] = {[0 ... VL - 1] = ~0u};
    return (vec)((bits)v & (bits)load((const float *)(ones + VL - count)));
}

/* A vector of the first `count` numbers at `p`, followed by zeros. */
INLINE vec load_first(const void *p, int count, const int element) {
    float floats[VL] ALIGNED = {0};
    half halves[VL] ALIGNED = {0};
    for (int i = 0; i < count; i++) /* a loop, to avoid a call of memcpy for a few numbers */
        if (element == FLOAT32)
            floats[i] = ((const float *)p)[i];
        else
            halves[i] = ((const half *)p)[i];
    return element == FLOAT32 ? load(floats) : widened(halves, element);
}

INLINE void store_first(void *p, vec v, int count, const int element) {
    float bytes[VL] ALIGNED;
    store_as(bytes, v, element);
    memcpy(p, bytes, count * bytes_of(element));
}

INLINE float one_of(const void *p, const int element) { return load_first(p, 1, element)[0]; }

INLINE void widen_all(float *out, const void *in, long count, const int element) {
    long i = 0;
    for (; i + VL <= count; i += VL) store(out + i, load_as(at(in, i, element), element));
    for (; i < count; i++) out[i] = one_of(at(in, i, element), element);
}

INLINE void round_all(void *out, const float *in, long count, const int element) {
    for (long i = 0; i < count; i += VL) {
        const int some = count - i < VL ? (int)(count - i) : VL;
        store_first((void *)at(out, i, element), load_first(in + i, some, FLOAT32), some, element);
    }
}

#endif
