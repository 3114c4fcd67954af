// Rows of elements that a team of threads reads together: 16 bytes at a time where they lie side by side and aligned. The
// order of a sum follows from shapes and alignment.
#pragma once
#include "common.cuh"

// Rows (before, length, after): the elements of a row are `after` apart.
struct Row { uint32_t base, length, step; bool real; };
__device__ __forceinline__ Row row_of(uint32_t row, uint32_t rows, uint32_t length, uint32_t after) {
  Row r = {row / after * length * after + row % after, row < rows ? length : 0, after, row < rows};
  return r;
}

template <class T> __device__ __forceinline__ bool wide_row(const Team& t, Row r, const T* x) {
  return t.along && r.step == 1 && aligned(x + r.base);
}

// f(j, value) for the elements that this lane takes.
template <class T, class F> __device__ __forceinline__ void sweep(const Team& t, Row r, const T* x, F f) {
  uint32_t j = t.lane;
  if (wide_row(t, r, x)) {
    constexpr int W = Pack<T>::size;
    uint32_t whole = r.length / W * W;
    for (uint32_t k = t.lane * W; k < whole; k += t.lanes * W) {
      Pack<T> p = load(x + r.base + k);
#pragma unroll
      for (int i = 0; i < W; i++) f(k + i, widen(p.v[i]));
    }
    j += whole;
  }
  for (; j < r.length; j += t.lanes) f(j, widen(x[r.base + j * r.step]));
}
template <class T, class F>
__device__ __forceinline__ void sweep(const Team& t, Row r, const T* x, const T* z, F f) {
  uint32_t j = t.lane;
  if (wide_row(t, r, x) && wide_row(t, r, z)) {
    constexpr int W = Pack<T>::size;
    uint32_t whole = r.length / W * W;
    for (uint32_t k = t.lane * W; k < whole; k += t.lanes * W) {
      Pack<T> p = load(x + r.base + k), q = load(z + r.base + k);
#pragma unroll
      for (int i = 0; i < W; i++) f(k + i, widen(p.v[i]), widen(q.v[i]));
    }
    j += whole;
  }
  for (; j < r.length; j += t.lanes) f(j, widen(x[r.base + j * r.step]), widen(z[r.base + j * r.step]));
}

// y = f(j, value), element by element.
template <class T, class F> __device__ __forceinline__ void each(const Team& t, Row r, T* y, const T* x, F f) {
  uint32_t j = t.lane;
  if (wide_row(t, r, x) && wide_row(t, r, y)) {
    constexpr int W = Pack<T>::size;
    uint32_t whole = r.length / W * W;
    for (uint32_t k = t.lane * W; k < whole; k += t.lanes * W) {
      Pack<T> p = load(x + r.base + k);
#pragma unroll
      for (int i = 0; i < W; i++) p.v[i] = Narrow<T>::of(f(k + i, widen(p.v[i])));
      store(y + r.base + k, p);
    }
    j += whole;
  }
  for (; j < r.length; j += t.lanes) {
    uint32_t at = r.base + j * r.step;
    y[at] = Narrow<T>::of(f(j, widen(x[at])));
  }
}
template <class T, class F>
__device__ __forceinline__ void each(const Team& t, Row r, T* y, const T* x, const T* z, F f) {
  uint32_t j = t.lane;
  if (wide_row(t, r, x) && wide_row(t, r, z) && wide_row(t, r, y)) {
    constexpr int W = Pack<T>::size;
    uint32_t whole = r.length / W * W;
    for (uint32_t k = t.lane * W; k < whole; k += t.lanes * W) {
      Pack<T> p = load(x + r.base + k), q = load(z + r.base + k);
#pragma unroll
      for (int i = 0; i < W; i++) p.v[i] = Narrow<T>::of(f(k + i, widen(p.v[i]), widen(q.v[i])));
      store(y + r.base + k, p);
    }
    j += whole;
  }
  for (; j < r.length; j += t.lanes) {
    uint32_t at = r.base + j * r.step;
    y[at] = Narrow<T>::of(f(j, widen(x[at]), widen(z[at])));
  }
}

// Largest value and sum of exponentials of a row.
template <class A> struct Normalizer { A largest, total; };
template <class T, class A> __device__ __forceinline__ Normalizer<A> normalizer(const Team& t, Row r, const T* x, A* scratch) {
  A largest = -INFINITY, total = 0;
  sweep(t, r, x, [&](uint32_t, A v) { largest = Largest()(largest, v); });
  largest = team_reduce(t, largest, scratch, Largest());
  sweep(t, r, x, [&](uint32_t, A v) { total += exp(v - largest); });
  Normalizer<A> found = {largest, team_reduce(t, total, scratch, Sum())};
  return found;
}
