// featx._store as Python sees it: buffers and addresses in, numbers out, and no lock held while there is work.
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <algorithm>
#include <exception>
#include <stdexcept>
#include <string>
#include <vector>

#include "calls.h"
#include "cpu.h"
#include "pool.h"
#include "words.h"
#include "xxh3.h"

namespace featx::store {
namespace {

constexpr size_t kLongestKey = 400;  // bytes of a key that is stored as it is

// The stored keys of a tuple of names. Most are plain ASCII and are taken as they are; Python makes the others.
class Keys {
 public:
  ~Keys() {
    for (PyObject* each : owned_) Py_DECREF(each);
  }

  bool read(PyObject* names, PyObject* store_key) {
    const Py_ssize_t count = PyTuple_Size(names);
    for (Py_ssize_t i = 0; i < count; ++i) {
      if (!add(PyTuple_GetItem(names, i), store_key)) return false;
    }
    return count >= 0;
  }

  const Key* data() const { return keys_.data(); }
  size_t size() const { return keys_.size(); }

 private:
  bool add(PyObject* name, PyObject* store_key) {
    if (PyUnicode_Check(name)) {
      Py_ssize_t size = 0;
      if (const char* text = PyUnicode_AsUTF8AndSize(name, &size); text != nullptr && plain(text, size)) {
        keys_.push_back({reinterpret_cast<const Byte*>(text), static_cast<size_t>(size)});
        return true;
      }
      PyErr_Clear();
    }
    PyObject* made = PyObject_CallFunctionObjArgs(store_key, name, nullptr);
    if (made == nullptr) return false;
    owned_.push_back(made);
    char* bytes = nullptr;
    Py_ssize_t size = 0;
    if (PyBytes_AsStringAndSize(made, &bytes, &size) != 0) return false;
    keys_.push_back({reinterpret_cast<const Byte*>(bytes), static_cast<size_t>(size)});
    return true;
  }

  static bool plain(const char* text, Py_ssize_t size) {
    const auto printable = [](char c) { return c >= ' ' && c <= '~'; };
    return size > 0 && static_cast<size_t>(size) <= kLongestKey && std::all_of(text, text + size, printable);
  }

  std::vector<Key> keys_;
  std::vector<PyObject*> owned_;
};

PyObject* py_xxh3_64(PyObject*, PyObject* arguments) {
  PyObject* pieces = nullptr;
  unsigned long long seed = 0;
  if (!PyArg_ParseTuple(arguments, "O!|K:xxh3_64", &PyTuple_Type, &pieces, &seed)) return nullptr;
  return guarded([&]() -> PyObject* {
    const Py_ssize_t count = PyTuple_Size(pieces);
    std::vector<Buffer> buffers(count);
    uint64_t length = 0;
    for (Py_ssize_t i = 0; i < count; ++i) {
      if (PyObject_GetBuffer(PyTuple_GetItem(pieces, i), &buffers[i].view, PyBUF_SIMPLE) != 0) return nullptr;
      length += buffers[i].view.len;
    }
    Xxh3 state(seed, length);
    for (const Buffer& piece : buffers) state.update(piece.bytes(), piece.view.len);
    return PyLong_FromUnsignedLongLong(state.digest());
  });
}

PyObject* py_level(PyObject*, PyObject* arguments) {
  static const char* const kNames[] = {"plain", "avx2", "avx512"};
  const char* wanted = nullptr;
  if (!PyArg_ParseTuple(arguments, "|s:level", &wanted)) return nullptr;
  if (wanted != nullptr) {
    const auto* found = std::find(std::begin(kNames), std::end(kNames), std::string(wanted));
    const auto asked = static_cast<Level>(found - kNames);
    if (found == std::end(kNames) || asked > best_level()) {
      PyErr_Format(PyExc_ValueError, "this processor has no level %s", wanted);
      return nullptr;
    }
    level() = asked;
  }
  return PyUnicode_FromString(kNames[static_cast<int>(level())]);
}

PyObject* py_find(PyObject*, PyObject* arguments) {
  Buffer map, key;
  unsigned long long page_size = 0, last_page = 0, root = 0;
  if (!PyArg_ParseTuple(arguments, "y*KKKy*:find", &map.view, &page_size, &last_page, &root, &key.view)) return nullptr;
  return guarded([&]() -> PyObject* {
    if (page_size == 0 || last_page >= static_cast<uint64_t>(map.view.len) / page_size) {
      throw std::out_of_range("the last page lies outside the map");
    }
    const Tree tree{map.bytes(), page_size, last_page, root};
    const Key wanted{key.bytes(), static_cast<size_t>(key.view.len)};
    Value value{};
    find(tree, &wanted, &value, 1);
    const auto offset = value.found == Found::yes ? static_cast<unsigned long long>(value.data - tree.map) : 0;
    return Py_BuildValue("iKKK", static_cast<int>(value.found), offset, static_cast<unsigned long long>(value.size),
                         static_cast<unsigned long long>(value.node));
  });
}

PyObject* py_gather(PyObject*, PyObject* arguments) {
  Buffer schema_words, shard_words, places, batch_words;
  PyObject *names = nullptr, *store_key = nullptr;
  long long threads = 1;
  if (!PyArg_ParseTuple(arguments, "y*y*O!Ow*z*L:gather", &schema_words.view, &shard_words.view, &PyTuple_Type, &names,
                        &store_key, &places.view, &batch_words.view, &threads)) {
    return nullptr;
  }
  return guarded([&]() -> PyObject* {
    Keys keys;
    if (!keys.read(names, store_key)) return nullptr;
    const size_t n = places.view.len / sizeof(Place);
    if (keys.size() != n) throw std::out_of_range("there must be a place for each key");
    auto* found = static_cast<Place*>(places.view.buf);
    unlocked([&] {
      const Schema schema = schema_from(schema_words.words(), schema_words.count());
      const auto shards = shards_from(shard_words.words(), shard_words.count(), schema.slots.size());
      const bool filled = batch_words.view.buf != nullptr;
      const Batch batch =
          filled ? batch_from(batch_words.words(), batch_words.count(), schema.fields.size()) : Batch{};
      gather(schema, shards, keys.data(), found, n, filled ? &batch : nullptr, threads);
    });
    const auto good = [](const Place& place) { return place.status == Status::good; };
    return PyBool_FromLong(std::all_of(found, found + n, good));
  });
}

PyMethodDef kMethods[] = {
    {"xxh3_64", py_xxh3_64, METH_VARARGS, "xxh3_64(pieces, seed=0): hash of a tuple of bytes, as if they were one"},
    {"level", py_level, METH_VARARGS, "level(name=None): instruction set in use: plain, avx2 or avx512; sets it"},
    {"find", py_find, METH_VARARGS,
     "find(map, page_size, last_page, root, key): (0 found, 1 absent or 2 damaged; offset, size, node)"},
    {"gather", py_gather, METH_VARARGS,
     "gather(schema, shards, names, store_key, places, batch, threads): finds and checks records and, unless batch is "
     "None, writes them into its tensors; fills places, says whether all went well"},
    {nullptr, nullptr, 0, nullptr}};

PyModuleDef kModule = {PyModuleDef_HEAD_INIT, "featx._store", "Records of a store, checked and gathered.", -1, kMethods,
                       nullptr, nullptr, nullptr, nullptr};

}  // namespace
}  // namespace featx::store

PyMODINIT_FUNC PyInit__store() { return PyModule_Create(&featx::store::kModule); }
