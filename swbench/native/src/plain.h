/* Tensors of torch that are plain memory, read through DLPack 1: one call a tensor, where Python
 * has one for each of its properties. */
#ifndef SW_PLAIN_H
#define SW_PLAIN_H
#include <Python.h>
#include <stdint.h>

/* What of DLPack is needed: a tensor as a structure, and the table of functions that a tensor type
 * has in `__dlpack_c_exchange_api__`. */
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
    int64_t *shape, *strides;
    uint64_t byte_offset;
};

struct dl_exchange {
    struct {
        uint32_t major, minor;
    } version;
    void *older, *allocate, *give, *take;
    int (*view)(void *object, struct dl_tensor *out); /* what `out` points to stays the object's
                                                         own; -1 with an exception set */
    void *stream;
};

enum { DL_MAJOR = 1, DL_CPU = 1, DL_FLOAT = 2 };

static const struct dl_exchange *exchange = 0;
static PyObject *tensor_type = 0, *parameter_type = 0, *is_neg = 0;

/* An attribute, or null without an exception. */
static PyObject *attribute(PyObject *of, const char *name) {
    PyObject *found = of ? PyObject_GetAttrString(of, name) : 0;
    if (!found) PyErr_Clear();
    return found;
}

/* Whether tensors of `torch` can be read: it has the table from version 2.10 on. Nothing changes if
 * they cannot. */
static int read_tensors_of(PyObject *torch) {
    PyObject *tensor = attribute(torch, "Tensor"), *nn = attribute(torch, "nn"),
             *parameter = attribute(nn, "Parameter");
    PyObject *capsule = attribute(tensor, "__dlpack_c_exchange_api__");
    const struct dl_exchange *table = capsule && PyCapsule_IsValid(capsule, "dlpack_exchange_api")
                                          ? PyCapsule_GetPointer(capsule, "dlpack_exchange_api")
                                          : 0;
    if (!is_neg) is_neg = PyUnicode_InternFromString("is_neg");
    const int can = is_neg && table && parameter && table->version.major == DL_MAJOR && table->view;
    if (can) {
        exchange = table;
        Py_XSETREF(tensor_type, Py_NewRef(tensor));
        Py_XSETREF(parameter_type, Py_NewRef(parameter));
    }
    Py_XDECREF(capsule);
    Py_XDECREF(parameter);
    Py_XDECREF(nn);
    Py_XDECREF(tensor);
    return can;
}

/* Whether there is memory where elements are said to be: a zero tensor of forward-mode
 * differentiation has none. */
static int there(const struct dl_tensor *t) {
    int64_t size = 1;
    for (int i = 0; i < t->dims; i++) size *= t->shape[i];
    return t->data || !size;
}

/* Whether `object` is a plain tensor whose memory is float32 on a CPU. */
static int seen(PyObject *object, struct dl_tensor *t) {
    if ((PyObject *)Py_TYPE(object) != tensor_type && (PyObject *)Py_TYPE(object) != parameter_type)
        return 0;
    if (exchange->view(object, t)) {
        PyErr_Clear();
        return 0;
    }
    return t->device.type == DL_CPU && t->dtype.code == DL_FLOAT && t->dtype.bits == 32 &&
           t->dtype.lanes == 1 && there(t);
}

static float *memory(const struct dl_tensor *t) {
    return (float *)((char *)t->data + t->byte_offset);
}

/* How many elements lie side by side, or -1 if they do not. */
static int64_t dense(const struct dl_tensor *t) {
    int64_t size = 1;
    for (int i = t->dims - 1; i >= 0; i--) {
        if (t->shape[i] != 1 && t->strides[i] != size) return -1;
        size *= t->shape[i];
    }
    return size;
}

/* `count` or, where `least`, at least that many floats side by side, of any shape; null if it is
 * not. */
static float *row(PyObject *object, long count, int least) {
    struct dl_tensor t;
    if (!seen(object, &t)) return 0;
    const int64_t size = dense(&t);
    return size == count || (least && size > count) ? memory(&t) : 0;
}

/* Whether the memory of a tensor holds the opposite of what it stands for. */
static int negative(PyObject *tensor) {
    PyObject *truth = PyObject_CallMethodNoArgs(tensor, is_neg);
    const int is = truth != Py_False;
    if (!truth) PyErr_Clear();
    Py_XDECREF(truth);
    return is;
}

/* The same or, for None, nothing; `plain` is cleared for what is neither. A parameter is asked only
 * if it was computed. */
static float *row_or_none(PyObject *object, long count, int *plain) {
    if (object == Py_None) return 0;
    float *found =
        (PyObject *)Py_TYPE(object) == tensor_type && negative(object) ? 0 : row(object, count, 0);
    if (!found) *plain = 0;
    return found;
}

/* The same for a tensor of exactly these dimensions. */
static float *matrices_or_none(PyObject *object, long groups, long rows, long columns, int *plain) {
    struct dl_tensor t;
    if (object == Py_None) return 0;
    if (seen(object, &t) && t.dims == 3 && t.shape[0] == groups && t.shape[1] == rows &&
        t.shape[2] == columns && dense(&t) >= 0)
        return memory(&t);
    *plain = 0;
    return 0;
}

#endif
