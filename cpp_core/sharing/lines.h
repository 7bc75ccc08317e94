#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace flint::sharing {

// Who waits in line for the units of each key, over all processes that share a directory: whoever
// came first is first, until he leaves. Only the first of a line looks at its limit.
class Lines {
 public:
  static constexpr size_t kMostWaiters = 16384;
  static constexpr size_t kMostKeyBytes = size_t{64} << 20;

  // A waiter has a number of its own among those of its connection.
  struct Waiter {
    uint64_t connection = 0;
    uint64_t number = 0;
    auto operator<=>(const Waiter&) const = default;
  };
  struct Place {
    bool first = false;
    uint64_t units_ahead = 0;  // what those before him wait for; UINT64_MAX: so much or more
  };

  // Nothing where there is no room, or where he stands in line already.
  std::optional<Place> Join(Waiter waiter, std::string_view key, uint64_t cost);
  // Nothing where he does not stand in line. Takes time in proportion to those before him.
  std::optional<Place> PlaceOf(Waiter waiter) const;
  // Returns who is first now, if it was he before, and somebody is.
  std::optional<Waiter> Leave(Waiter waiter);
  // All of a connection. Returns who is first of each line now where it was one of them.
  std::vector<Waiter> LeaveAll(uint64_t connection);

  std::vector<Waiter> Firsts() const;
  bool Contains(Waiter waiter) const { return waiters_.contains(waiter); }
  size_t CountOf(uint64_t connection) const;
  bool empty() const { return waiters_.empty(); }

 private:
  struct Standing {
    Waiter waiter;
    uint64_t cost = 0;
  };
  __extension__ using Units = unsigned __int128;  // costs are up to 2^64
  struct Line {
    std::list<Standing> waiters;
    Units units = 0;
  };
  using LinesByKey = std::map<std::string, Line, std::less<>>;
  struct InLine {
    LinesByKey::iterator line;
    std::list<Standing>::iterator place;
  };

  static uint64_t AtMost(Units units);
  std::optional<Waiter> Remove(std::map<Waiter, InLine>::iterator waiter);

  std::map<Waiter, InLine> waiters_;
  LinesByKey lines_;  // none is empty
  size_t key_bytes_ = 0;
};

}  // namespace flint::sharing
