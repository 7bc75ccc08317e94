#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "engine/engine.h"
#include "engine/place.h"
#include "flint_limiter.h"
#include "sharing/member.h"

// A limiter as the public header hands it out.
struct flint_limiter {
  // Null where another process decides. Set behind `place`, and left alone then: in a directory
  // that is shared when this process comes to own it.
  std::atomic<flint::Engine*> engine{nullptr};
  std::unique_ptr<flint::Place> place;
  bool tell_busy = false;
  // Of one whose directory is shared.
  std::unique_ptr<flint::sharing::Member::Home> home;
  std::unique_ptr<flint::sharing::Member> member;

  // Whether the calls are for `member` to ask somebody else.
  bool IsClient() const {
    return member != nullptr && engine.load(std::memory_order_acquire) == nullptr;
  }
};

namespace flint {

// Opens a directory that is shared. Returns a status code.
int32_t OpenShared(const std::string& directory, const flint_limiter_options& options,
                   std::unique_ptr<flint_limiter>* limiter, flint_limiter_error* error);

}  // namespace flint
