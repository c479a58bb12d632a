// featx._lane as Python sees it: a capsule that holds a lane, and functions that take it.
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <unistd.h>

#include <exception>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

#include "calls.h"
#include "lane.h"
#include "words.h"

namespace featx::lane {
namespace {

constexpr char kCapsule[] = "featx.lane";

Lane* lane_of(PyObject* capsule) { return static_cast<Lane*>(PyCapsule_GetPointer(capsule, kCapsule)); }

void let_go(Kept& kept) {
  for (void* owner : kept.all()) Py_DECREF(static_cast<PyObject*>(owner));
}

void destroy(PyObject* capsule) {
  Lane* lane = lane_of(capsule);
  if (lane == nullptr) return;
  const auto kept = lane->kept();
  unlocked([&] { delete lane; });
  let_go(*kept);
}

// A tuple of bytes; false, with an error, where it is something else.
bool texts(PyObject* tuple, std::vector<std::string>& found) {
  for (Py_ssize_t i = 0; i < PyTuple_Size(tuple); ++i) {
    char* text = nullptr;
    Py_ssize_t size = 0;
    if (PyBytes_AsStringAndSize(PyTuple_GetItem(tuple, i), &text, &size) != 0) return false;
    found.emplace_back(text, static_cast<size_t>(size));
  }
  return true;
}

bool numbers(PyObject* tuple, std::vector<double>& found) {
  for (Py_ssize_t i = 0; i < PyTuple_Size(tuple); ++i) {
    found.push_back(PyFloat_AsDouble(PyTuple_GetItem(tuple, i)));
    if (PyErr_Occurred() != nullptr) return false;
  }
  return true;
}

template <typename Numbers>
PyObject* tuple_of(const Numbers& numbers) {
  PyObject* tuple = PyTuple_New(static_cast<Py_ssize_t>(numbers.size()));
  for (size_t i = 0; tuple != nullptr && i < numbers.size(); ++i) {
    PyObject* number = PyLong_FromUnsignedLongLong(numbers[i]);
    if (number == nullptr || PyTuple_SetItem(tuple, static_cast<Py_ssize_t>(i), number) != 0) Py_CLEAR(tuple);
  }
  return tuple;
}

PyObject* py_make(PyObject*, PyObject* arguments) {
  int listener = -1;
  Limits limits{};
  PyObject *names = nullptr, *accepted = nullptr, *bounds = nullptr;
  Buffer token;
  if (!PyArg_ParseTuple(arguments, "iddO!y*O!O!:make", &listener, &limits.patience, &limits.keep_alive, &PyTuple_Type,
                        &names, &token.view, &PyTuple_Type, &accepted, &PyTuple_Type, &bounds)) {
    return nullptr;
  }
  return guarded([&]() -> PyObject* {
    Admission admission;
    std::vector<double> seconds;
    admission.token = token.text();
    if (!texts(names, admission.names) || !texts(accepted, admission.accepted) || !numbers(bounds, seconds)) return nullptr;
    auto lane = std::make_unique<Lane>(listener, limits, std::move(admission), std::move(seconds));
    PyObject* capsule = PyCapsule_New(lane.get(), kCapsule, destroy);
    if (capsule != nullptr) lane.release();
    return capsule;
  });
}

PyObject* py_put(PyObject*, PyObject* arguments) {
  PyObject *capsule = nullptr, *pieces = nullptr, *owner = nullptr;
  Buffer name, schema, shards, whole;
  if (!PyArg_ParseTuple(arguments, "Oy*y*y*y*O!O:put", &capsule, &name.view, &schema.view, &shards.view, &whole.view,
                        &PyTuple_Type, &pieces, &owner)) {
    return nullptr;
  }
  Lane* lane = lane_of(capsule);
  if (lane == nullptr) return nullptr;
  return guarded([&]() -> PyObject* {
    std::vector<std::string> heads;
    if (!texts(pieces, heads)) return nullptr;
    if (heads.size() != 9) throw std::invalid_argument("there must be three forms of three pieces");
    auto served = std::make_shared<Served>();
    served->schema = store::schema_from(schema.words(), schema.count());
    served->shards = store::shards_from(shards.words(), shards.count(), served->schema.slots.size());
    for (const char each : whole.text()) served->whole.push_back(each != 0);
    served->whole.resize(served->shards.size());
    served->plain = {heads[0], heads[1], heads[2], true};
    served->told = {heads[3], heads[4], heads[5], true};
    served->same = {heads[6], heads[7], heads[8], false};
    Py_INCREF(owner);
    served->owner = owner;
    served->kept = lane->kept();
    lane->stores().put(name.text(), std::move(served));
    let_go(*lane->kept());
    Py_RETURN_NONE;
  });
}

PyObject* py_remove(PyObject*, PyObject* arguments) {
  PyObject* capsule = nullptr;
  Buffer name;
  if (!PyArg_ParseTuple(arguments, "Oy*:remove", &capsule, &name.view)) return nullptr;
  Lane* lane = lane_of(capsule);
  if (lane == nullptr) return nullptr;
  return guarded([&]() -> PyObject* {
    lane->stores().put(name.text(), nullptr);
    let_go(*lane->kept());
    Py_RETURN_NONE;
  });
}

PyObject* py_start(PyObject*, PyObject* capsule) {
  Lane* lane = lane_of(capsule);
  if (lane == nullptr) return nullptr;
  return guarded([&]() -> PyObject* {
    lane->start();
    Py_RETURN_NONE;
  });
}

PyObject* py_bell(PyObject*, PyObject* capsule) {
  Lane* lane = lane_of(capsule);
  return lane == nullptr ? nullptr : PyLong_FromLong(lane->bell());
}

PyObject* py_taken(PyObject*, PyObject* capsule) {
  Lane* lane = lane_of(capsule);
  if (lane == nullptr) return nullptr;
  return guarded([&]() -> PyObject* {
    let_go(*lane->kept());
    PyObject* list = PyList_New(0);
    for (const Handed& handed : lane->taken()) {
      if (list == nullptr) {  // no memory: nobody will ever have these
        close(handed.file);
        continue;
      }
      PyObject* pair =
          Py_BuildValue("iy#", handed.file, handed.bytes.data(), static_cast<Py_ssize_t>(handed.bytes.size()));
      if (pair == nullptr || PyList_Append(list, pair) != 0) {
        close(handed.file);
        Py_CLEAR(list);
      }
      Py_XDECREF(pair);
    }
    return list;
  });
}

PyObject* py_counted(PyObject*, PyObject* capsule) {
  Lane* lane = lane_of(capsule);
  if (lane == nullptr) return nullptr;
  return guarded([&]() -> PyObject* {
    let_go(*lane->kept());
    const Tally tally = lane->counts().taken();
    return Py_BuildValue("NNNd", tuple_of(tally.requests), tuple_of(tally.bytes), tuple_of(tally.times), tally.seconds);
  });
}

PyObject* py_stop(PyObject*, PyObject* capsule) {
  Lane* lane = lane_of(capsule);
  if (lane == nullptr) return nullptr;
  unlocked([&] { lane->stop(); });
  Py_RETURN_NONE;
}

PyObject* py_left(PyObject*, PyObject* capsule) {
  Lane* lane = lane_of(capsule);
  return lane == nullptr ? nullptr : PyLong_FromSize_t(lane->open());
}

PyObject* py_end(PyObject*, PyObject* capsule) {
  Lane* lane = lane_of(capsule);
  if (lane == nullptr) return nullptr;
  unlocked([&] {
    lane->end();
    lane->stores().clear();
  });
  let_go(*lane->kept());
  Py_RETURN_NONE;
}

PyMethodDef kMethods[] = {
    {"make", py_make, METH_VARARGS,
     "make(listener, patience, keep_alive, names, token, accepted, bounds): a lane for the connections of a socket"},
    {"start", py_start, METH_O, "start(lane): accepts connections from now on"},
    {"put", py_put, METH_VARARGS,
     "put(lane, name, schema, shards, whole, heads, owner): serves a store; owner is kept while it is needed"},
    {"remove", py_remove, METH_VARARGS, "remove(lane, name): requests for that store are handed over"},
    {"bell", py_bell, METH_O, "bell(lane): file that can be read when connections were handed over"},
    {"taken", py_taken, METH_O, "taken(lane): [(file, bytes)] of connections that were handed over"},
    {"counted", py_counted, METH_O, "counted(lane): requests, bytes, times, seconds since the last call"},
    {"stop", py_stop, METH_O, "stop(lane): accepts nothing more, ends connections without an answer under way"},
    {"left", py_left, METH_O, "left(lane): connections it has"},
    {"end", py_end, METH_O, "end(lane): ends all of them"},
    {nullptr, nullptr, 0, nullptr}};

PyModuleDef kModule = {PyModuleDef_HEAD_INIT, "featx._lane", "Plain requests for records, answered without Python.", -1,
                       kMethods, nullptr, nullptr, nullptr, nullptr};

}  // namespace
}  // namespace featx::lane

PyMODINIT_FUNC PyInit__lane() { return PyModule_Create(&featx::lane::kModule); }
