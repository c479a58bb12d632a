// What every extension that Python calls needs: buffers let go of, exceptions told, and no lock held while there is work.
#pragma once

#include <Python.h>

#include <cerrno>
#include <cstdint>
#include <exception>
#include <string>
#include <system_error>

#include "bytes.h"

namespace featx {

// A buffer that an argument gave, let go of at the end of the call.
struct Buffer {
  Py_buffer view{};
  ~Buffer() {
    if (view.obj != nullptr) PyBuffer_Release(&view);
  }
  const int64_t* words() const { return static_cast<const int64_t*>(view.buf); }
  size_t count() const { return static_cast<size_t>(view.len) / sizeof(int64_t); }
  const store::Byte* bytes() const { return static_cast<const store::Byte*>(view.buf); }
  std::string text() const { return {static_cast<const char*>(view.buf), static_cast<size_t>(view.len)}; }
};

// Runs a body that may throw: what the system refused as an OSError, everything else as a ValueError with its message.
template <typename Body>
PyObject* guarded(const Body& body) {
  try {
    return body();
  } catch (const std::system_error& error) {
    errno = error.code().value();
    PyErr_SetFromErrno(PyExc_OSError);
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_ValueError, error.what());
  }
  return nullptr;
}

// Runs a body without Python's lock, also when it throws.
template <typename Body>
void unlocked(const Body& body) {
  struct Unlocked {
    PyThreadState* state = PyEval_SaveThread();
    ~Unlocked() { PyEval_RestoreThread(state); }
  } const whole;
  body();
}

}  // namespace featx
