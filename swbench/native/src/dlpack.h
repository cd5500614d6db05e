/* The part of DLPack 1 (https://dmlc.github.io/dlpack) that is needed: a tensor as a structure, and
 * the table of functions that a tensor type shows as `__dlpack_c_exchange_api__`. */
#ifndef SW_DLPACK_H
#define SW_DLPACK_H
#include <stdint.h>

struct dl_tensor {
    void *data;
    struct {
        int32_t type, id;
    } device;
    int32_t dims;
    struct {
        uint8_t code, bits;
        uint16_t lanes;
    } dtype;
    int64_t *shape, *strides; /* of elements */
    uint64_t byte_offset;
};

enum { DL_MAJOR = 1, DL_CPU = 1, DL_FLOAT = 2, DL_BFLOAT = 4 };

struct dl_exchange {
    struct {
        uint32_t major, minor;
    } version;
    void *older, *allocate, *from_object, *to_object;
    /* Describes the tensor `object`; shape and strides stay its own. Returns -1 with a Python
       exception set where it cannot. May be null. */
    int (*view)(void *object, struct dl_tensor *out);
    void *stream;
};

#endif
