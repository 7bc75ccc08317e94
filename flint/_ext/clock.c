/* clock.c - Clock: a time that only the program moves, for tests. The base of
 * flint.testing.ManualClock. */
#include "native.h"

#define AS_CLOCK(object) ((ClockObject*)(object))

int64_t clock_read(void* argument) { return atomic_load(&AS_CLOCK(argument)->now_ns); }

static PyObject* clock_new(PyTypeObject* type, PyObject* args, PyObject* keywords) {
  (void)args; /* a subclass's __init__ takes them */
  (void)keywords;
  PyObject* self = PyType_GenericAlloc(type, 0);
  if (self != NULL) atomic_init(&AS_CLOCK(self)->now_ns, 0);
  return self;
}

static int clock_traverse(PyObject* self, visitproc visit, void* arg) {
  Py_VISIT(Py_TYPE(self));
  return 0;
}

static void clock_dealloc(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  PyObject_GC_UnTrack(self);
  ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
  Py_DECREF(type);
}

static PyObject* clock_set_ns(PyObject* self, PyObject* value) {
  int64_t now_ns;
  if (!args_int64("now_ns", value, 0, (int64_t)FLINT_MAX_QUANTITY, &now_ns)) return NULL;
  atomic_store(&AS_CLOCK(self)->now_ns, now_ns);
  Py_RETURN_NONE;
}

static PyObject* clock_advance_ns(PyObject* self, PyObject* value) {
  const int64_t most = (int64_t)FLINT_MAX_QUANTITY;
  int64_t by_ns;
  if (!args_int64("by_ns", value, -most, most, &by_ns)) return NULL;
  int64_t before = atomic_load(&AS_CLOCK(self)->now_ns);
  int64_t after;
  do {
    after = before + by_ns; /* at most 2^63 - 2^62 + 2^62 apart from 0: no overflow */
    if (after < 0 || after > most) {
      PyErr_Format(PyExc_ValueError,
                   "by_ns must leave the clock between 0 and 2^62 ns: it is at %lld, and by_ns is "
                   "%lld",
                   (long long)before, (long long)by_ns);
      return NULL;
    }
  } while (!atomic_compare_exchange_weak(&AS_CLOCK(self)->now_ns, &before, after));
  Py_RETURN_NONE;
}

static PyObject* clock_get_now_ns(PyObject* self, void* closure) {
  (void)closure;
  return PyLong_FromLongLong(atomic_load(&AS_CLOCK(self)->now_ns));
}

static PyMethodDef clock_methods[] = {
    {"set_ns", clock_set_ns, METH_O,
     "set_ns($self, now_ns, /)\n--\n\n"
     "Set the time to now_ns nanoseconds since 1970, 0 to 2**62. It may go back."},
    {"advance_ns", clock_advance_ns, METH_O,
     "advance_ns($self, by_ns, /)\n--\n\n"
     "Move the time by by_ns nanoseconds in one step, back if negative. Any thread may call it."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef clock_getset[] = {
    {"now_ns", clock_get_now_ns, NULL, "The time, in nanoseconds since 1970.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot clock_slots[] = {
    {Py_tp_doc, (void*)"Clock(*args, **kwargs)\n--\n\n"
                       "A time in nanoseconds that moves only when told, starting at 0. Use "
                       "flint.testing.ManualClock."},
    {Py_tp_new, clock_new},
    {Py_tp_dealloc, clock_dealloc},
    {Py_tp_traverse, clock_traverse},
    {Py_tp_methods, clock_methods},
    {Py_tp_getset, clock_getset},
    {0, NULL},
};

PyType_Spec clock_type_spec = {
    .name = "flint._native.Clock",
    .basicsize = sizeof(ClockObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = clock_slots,
};
