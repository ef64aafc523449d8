// What products by tiles share: ranges, chains of their TERMS, and parts of their ROWS lines for which sums
// stay in registers.

// Chains of up to 1024 terms.
constexpr int64_t CHAINS = (TERMS + 1023) / 1024, LONGEST = (TERMS + CHAINS - 1) / CHAINS;

struct Range {
  int64_t begin, end;
  constexpr int64_t count() const { return end - begin; }
};

// One of some shares of n, each as large as the others, or larger by one.
constexpr Range share_of(int64_t share, int64_t shares, int64_t n) {
  return {n * share / shares, n * (share + 1) / shares};
}

// As many parts for each of SHARES, with FEW lines or one more, and no more than MOST.
template <int64_t MOST, int64_t SHARES>
struct PartsOf {
  static constexpr int64_t COUNT = (ROWS + MOST * SHARES - 1) / (MOST * SHARES) * SHARES;
  static constexpr int64_t FEW = ROWS / COUNT;

  static constexpr Range lines(int64_t part) { return share_of(part, COUNT, ROWS); }

  // Call a function of how many lines a part has, a constant.
  template <typename Function>
  static void call_with_lines(int64_t part, const Function& function) {
    if (lines(part).count() == FEW) function(std::integral_constant<int64_t, FEW>());
    else function(std::integral_constant<int64_t, std::min(FEW + 1, MOST)>());
  }
};
