#include "sharing/lines.h"

#include <iterator>

namespace flint::sharing {

uint64_t Lines::AtMost(Units units) {
  return units > UINT64_MAX ? UINT64_MAX : static_cast<uint64_t>(units);
}

std::optional<Lines::Place> Lines::Join(Waiter waiter, std::string_view key, uint64_t cost) {
  if (waiters_.size() >= kMostWaiters || waiters_.contains(waiter)) return std::nullopt;
  auto found = lines_.find(key);
  if (found == lines_.end()) {
    if (key_bytes_ + key.size() > kMostKeyBytes) return std::nullopt;
    found = lines_.emplace(key, Line()).first;
    key_bytes_ += key.size();
  }
  Line& line = found->second;
  const Place place{line.waiters.empty(), AtMost(line.units)};
  line.waiters.push_back({waiter, cost});
  line.units += cost;
  waiters_.emplace(waiter, InLine{found, std::prev(line.waiters.end())});
  return place;
}

std::optional<Lines::Place> Lines::PlaceOf(Waiter waiter) const {
  const auto found = waiters_.find(waiter);
  if (found == waiters_.end()) return std::nullopt;
  Units units = 0;
  const std::list<Standing>& line = found->second.line->second.waiters;
  for (auto one = line.begin(); one->waiter != waiter; ++one) units += one->cost;
  return Place{line.front().waiter == waiter, AtMost(units)};
}

std::optional<Lines::Waiter> Lines::Leave(Waiter waiter) {
  const auto found = waiters_.find(waiter);
  return found == waiters_.end() ? std::nullopt : Remove(found);
}

std::optional<Lines::Waiter> Lines::Remove(std::map<Waiter, InLine>::iterator waiter) {
  const InLine stood = waiter->second;
  waiters_.erase(waiter);
  Line& line = stood.line->second;
  const bool was_first = stood.place == line.waiters.begin();
  line.units -= stood.place->cost;
  line.waiters.erase(stood.place);
  if (!line.waiters.empty()) {
    return was_first ? std::optional(line.waiters.front().waiter) : std::nullopt;
  }
  key_bytes_ -= stood.line->first.size();
  lines_.erase(stood.line);
  return std::nullopt;
}

std::vector<Lines::Waiter> Lines::LeaveAll(uint64_t connection) {
  std::vector<Waiter> first_now;
  for (;;) {
    const auto one = waiters_.lower_bound({connection, 0});
    if (one == waiters_.end() || one->first.connection != connection) break;
    const std::optional<Waiter> first = Remove(one);
    if (first.has_value() && first->connection != connection) first_now.push_back(*first);
  }
  return first_now;
}

std::vector<Lines::Waiter> Lines::Firsts() const {
  std::vector<Waiter> firsts;
  firsts.reserve(lines_.size());
  for (const auto& [key, line] : lines_) firsts.push_back(line.waiters.front().waiter);
  return firsts;
}

size_t Lines::CountOf(uint64_t connection) const {
  return static_cast<size_t>(std::distance(waiters_.lower_bound({connection, 0}),
                                           waiters_.lower_bound({connection + 1, 0})));
}

}  // namespace flint::sharing
