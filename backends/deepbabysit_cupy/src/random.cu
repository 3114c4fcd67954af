// Random words by counter, and dropout drawn from them: the same bits as on the CPU. A thread makes one block of Philox,
// eight words that stand one behind another.
#include "common.cuh"

// control: seed, step, first global row; element e of the draw, counted from the first global row, is half e % 2 of word
// e / 2 % 4 of block e / 8.
struct Draw { uint64_t seed, step, first; };
__device__ __forceinline__ Draw draw_of(const uint64_t* control, uint64_t columns) {
  Draw d = {control[0], control[1], control[2] * columns};
  return d;
}
__device__ __forceinline__ uint32_t half_of(const Words& words, int e) {
  return (uint32_t)(words.v[e >> 1] >> (e & 1 ? 32 : 0));
}

__device__ __forceinline__ void words(uint32_t* y, const uint64_t* control, int64_t n, int64_t columns, uint64_t stream,
                                      uint64_t call) {
  Draw d = draw_of(control, columns);
  uint64_t begin = d.first >> 3;
  int64_t skip = d.first & 7;
  EACH(block, (n + skip + 7) >> 3) {
    Words words = philox(begin + block, d.step, call, 0, d.seed, stream);
    int64_t at = (int64_t)block * 8 - skip;
#pragma unroll
    for (int e = 0; e < 8; e++)
      if (at + e >= 0 && at + e < n) y[at + e] = half_of(words, e);
  }
}
#define WORDS(T)                                                                                                     \
  extern "C" __global__ void __launch_bounds__(256) random_words_##T(                                                \
      T* y, const uint64_t* control, int64_t n, int64_t columns, uint64_t stream, uint64_t call) {                   \
    words(y, control, n, columns, stream, call);                                                                     \
  }

// The factor of dropout, and x times it where x is given.
template <class T>
__device__ __forceinline__ void dropout(T* y, T* factor, const T* x, const uint64_t* control, int64_t n,
                                        int64_t columns, uint64_t stream, uint64_t call, uint64_t limit, double keep) {
  typedef typename Wide<T>::type A;
  Draw d = draw_of(control, columns);
  uint64_t begin = d.first >> 3;
  int64_t skip = d.first & 7;
  T kept = Narrow<T>::of((A)1 / (A)keep), none = Narrow<T>::of((A)0);
  A share = widen(kept);
  bool straight = skip == 0 && aligned(factor) && (!x || (aligned(x) && aligned(y)));
  EACH(block, (n + skip + 7) >> 3) {
    Words words = philox(begin + block, d.step, call, 0, d.seed, stream);
    int64_t at = (int64_t)block * 8 - skip;
    if (straight && at + 8 <= n) {
      constexpr int W = Pack<T>::size;
#pragma unroll
      for (int k = 0; k < 8; k += W) {
        Pack<T> f, v;
#pragma unroll
        for (int i = 0; i < W; i++) f.v[i] = half_of(words, k + i) >= limit ? kept : none;
        store(factor + at + k, f);
        if (!x) continue;
        v = load(x + at + k);
#pragma unroll
        for (int i = 0; i < W; i++) v.v[i] = Narrow<T>::of(widen(v.v[i]) * widen(f.v[i]));
        store(y + at + k, v);
      }
      continue;
    }
#pragma unroll
    for (int e = 0; e < 8; e++) {
      if (at + e < 0 || at + e >= n) continue;
      bool keeps = half_of(words, e) >= limit;
      factor[at + e] = keeps ? kept : none;
      if (x) y[at + e] = Narrow<T>::of((A)widen(x[at + e]) * (keeps ? share : (A)0));
    }
  }
}

#define DROPOUT(T)                                                                                                   \
  extern "C" __global__ void __launch_bounds__(256, 2) dropout_##T(                                                  \
      T* y, T* factor, const T* x, const uint64_t* control, int64_t with_x, int64_t n, int64_t columns,              \
      uint64_t stream, uint64_t call, uint64_t limit, double keep) {                                                 \
    dropout<T>(y, factor, with_x ? x : (const T*)0, control, n, columns, stream, call, limit, keep);                 \
  }
