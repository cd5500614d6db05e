/* A dense (N, C, pixels) or (N, pixels, C) tensor in groups of G channels. */
#ifndef SW_TENSOR_H
#define SW_TENSOR_H
#include "element.h"

/* Pixels of one block: G = 16 rows of it are 16 KB, two blocks fit a first-level cache of 48 KB. A
 * multiple of three vectors of any width. */
#define BLOCK 240
/* Floats from one row of a block to the next. Not a power of two, which would put all rows on the
 * same cache sets. */
#define ROW (BLOCK + 32)
/* Bytes of a line of the cache. */
#define LINE 64

struct shape {
    long images, channels, pixels;
    int group; /* G */
    int channels_last;
    int element; /* of enum element */
};

/* The multiply-adds of one product of a G×G matrix with every pixel. */
INLINE double multiply_adds(const struct shape *s) {
    return (double)s->images * s->channels * s->pixels * s->group;
}

INLINE int padded(int group) { return (group + 3) & ~3; }

INLINE int full_vectors(int count) { return (count + VL - 1) / VL * VL; }

/* The element at pixel `first` of channel 0 of group `g` of image `n`. */
INLINE const void *pixel_of(const void *x, const struct shape *s, long n, long g, long first) {
    const long channel = n * s->channels + g * s->group;
    return at(x,
              s->channels_last ? (n * s->pixels + first) * s->channels + g * s->group
                               : channel * s->pixels + first,
              s->element);
}

/* The rows of the next block, which are fetched while this block is worked on: they lie far apart,
 * and the processor's own prefetcher has to start anew at each. Every turn of an inner loop fetches
 * a line or two; more at once would keep the current block waiting. After the last block of a group
 * comes the first of the next group. Where there is none, `otherwise` is fetched, which is in the
 * cache anyway. Each line is addressed by its last float: where a row starts within a line, the
 * block before ends in that line. */
struct ahead {
    const char *row;
    long stride; /* bytes */
};

INLINE struct ahead ahead_of(const void *x, const struct shape *s, long n, long g, long first,
                             const float *otherwise) {
    long channel = n * s->channels + g * s->group;
    if (first >= s->pixels) channel += s->group, first = 0;
    if (s->channels_last || channel >= s->images * s->channels)
        return (struct ahead){(const char *)otherwise, 0};
    return (struct ahead){(const char *)at(x, channel * s->pixels + first, s->element) + LINE - 4,
                          s->pixels * bytes_of(s->element)};
}

INLINE void fetch(const char *p) { __builtin_prefetch(p, 0, 3); }
INLINE void fetch_to_write(const void *p) { __builtin_prefetch(p, 1, 3); }

#endif
