#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/mutex.h"
#include "flint_limiter.h"
#include "sharing/channel.h"
#include "sharing/owner.h"

namespace flint::sharing {

// A limiter whose directory is shared: owned by this process, which then decides itself and serves
// the others, or by another, which is asked. Which of them is found out at opening, whenever the
// owner is lost, and in a forked child at its first call.
//
// Taking over: whoever loses the owner, in the middle of a call or between two, tries to lock the
// directory and to connect again, in turns, from kShortestNapNs on and twice as long each time up
// to kLongestNapNs, until open_timeout_ns is over. The lock decides who owns: it is free when its
// holder is dead or has closed, and never before. An owner that is stopped is not taken over.
//
// A request that was under way when the owner was lost is made again: what it asked for may have
// been counted before, and is counted again.
//
// Everything but Open and the destructor may be called from any thread.
class Member {
 public:
  static constexpr uint64_t kShortestNapNs = 200'000;
  static constexpr uint64_t kLongestNapNs = 10'000'000;

  // The limiter of this process, as long as it owns the directory.
  class Home {
   public:
    virtual ~Home() = default;
    // Locks the directory and reads it; LOCKED where another process has it. Not used by any call
    // before MoveIn.
    virtual int32_t Open(flint_limiter_error* error) = 0;
    // Closes what has been opened and not moved into.
    virtual void Discard() = 0;
    // From now on the calls are made here.
    virtual void MoveIn() = 0;
    // In a forked child, where it is the parent's: the calls come to the member again.
    virtual void LeaveInChild() = 0;
  };

  struct Settings {
    Channel::Settings channel;
    uint64_t open_timeout_ns = 0;
    uint32_t on_error = FLINT_LIMITER_ON_ERROR_RAISE;
  };

  // `limiter` is the handle whose calls these are.
  Member(flint_limiter* limiter, Home* home, Settings settings);
  ~Member();
  Member(const Member&) = delete;
  Member& operator=(const Member&) = delete;

  int32_t Open(flint_limiter_error* error);
  // Ends calls that wait, answers those of others, and makes later calls return CLOSED. The limiter
  // of this process, if there is one, must still be shut down. May be called again.
  void Shutdown();

  // The calls of flint_limiter.h, while another process owns the directory.
  int32_t Check(std::string_view key, uint64_t cost, uint32_t flags,
                const flint_limiter_config* inline_config, uint32_t peek,
                flint_limiter_result* result, flint_limiter_limit_result* limits, uint64_t capacity,
                uint64_t stride, uint64_t* count, flint_limiter_error* error);
  int32_t CheckAll(const flint_limiter_item* items, uint64_t count, uint64_t item_stride,
                   uint32_t flags, flint_limiter_result* results, uint64_t result_stride,
                   uint64_t* denied_index, flint_limiter_error* error);
  int32_t CheckMany(const flint_limiter_item* items, uint64_t count, uint64_t item_stride,
                    uint32_t flags, flint_limiter_result* results, uint64_t result_stride,
                    int32_t* codes, flint_limiter_error* error);
  int32_t LimitMany(const flint_limiter_config* configs, uint64_t count, uint64_t stride,
                    uint32_t flags, uint64_t* ticket, flint_limiter_error* error);
  // RemoveNamed and ResetNamed; `name` null: all of them.
  int32_t End(bool remove, std::string_view key, const char* name, uint64_t name_bytes,
              uint32_t kind, uint32_t flags, uint64_t* ticket, flint_limiter_error* error);
  int32_t Status(std::string_view key, std::string_view name, uint32_t kind,
                 flint_limiter_status_info* status, flint_limiter_error* error);
  int32_t List(const char* after, uint64_t after_bytes, uint32_t after_kind, uint32_t flags,
               flint_limiter_status_info* entries, uint64_t capacity, uint64_t stride, char* text,
               uint64_t text_bytes, uint64_t* count, flint_limiter_error* error);
  int32_t ListPage(std::string_view cursor, uint32_t flags, flint_limiter_status_info* entries,
                   uint64_t capacity, uint64_t stride, char* text, uint64_t text_bytes,
                   uint64_t* count, char* next_cursor, uint64_t* next_cursor_bytes,
                   flint_limiter_error* error);
  int32_t Top(uint32_t by, uint32_t flags, flint_limiter_status_info* entries, uint64_t capacity,
              uint64_t stride, char* text, uint64_t text_bytes, uint64_t* count,
              flint_limiter_error* error);
  int32_t Info(flint_limiter_info* info, flint_limiter_error* error);
  int32_t History(const char* key, uint64_t key_bytes, const flint_limiter_history_query* query,
                  flint_limiter_event* events, uint64_t capacity, uint64_t stride, char* text,
                  uint64_t text_bytes, uint64_t* count, uint64_t* next_cursor,
                  flint_limiter_error* error);
  int32_t Flush(flint_limiter_error* error);
  int32_t Compact(uint32_t flags, flint_limiter_error* error);
  // Has those who wait in line look again, where this process owns the directory.
  void LimitsHaveChanged();
  // CLOSED after Shutdown.
  int32_t CheckOpen(flint_limiter_error* error) const;

 private:
  // Of one process: a forked child begins with another.
  struct State {
    mutable SystemMutex mutex;
    Condition<SystemMutex> changed;
    std::vector<std::unique_ptr<Channel>> idle FLINT_GUARDED_BY(mutex);
    std::set<Channel*> busy FLINT_GUARDED_BY(mutex);
    std::unique_ptr<Owner> owner FLINT_GUARDED_BY(mutex);
    uint64_t running FLINT_GUARDED_BY(mutex) = 0;
    bool here FLINT_GUARDED_BY(mutex) = false;  // this process owns the directory
    bool electing FLINT_GUARDED_BY(mutex) = false;
    bool closed FLINT_GUARDED_BY(mutex) = false;
  };

  // What is undone when a call ends, however it ends: memory may be short for a reply.
  class Running;
  class Busy;
  class Electing;

  // What has come of looking for the owner, or of asking it.
  struct Found {
    int32_t code = FLINT_LIMITER_OK;
    bool here = false;  // this process owns the directory: make the call again
    std::unique_ptr<Channel> channel;
  };

  static void InChild(void* member);
  // Asks, and reads the status code of the reply; `*here` set: make the call again.
  int32_t Ask(const std::string& request, std::string* body, bool* here,
              flint_limiter_error* error);
  int32_t AskRunning(const std::string& request, std::string* body, bool* here,
                     flint_limiter_error* error);
  int32_t AskOwner(State* state, std::string_view request, std::string* body, bool* here,
                   flint_limiter_error* error);
  Found FindOwner(State* state, uint64_t lost_at_ns, flint_limiter_error* error);
  Found Elect(State* state, uint64_t lost_at_ns, flint_limiter_error* error);
  Found ElectAlone(State* state, uint64_t lost_at_ns, flint_limiter_error* error);
  int32_t TakeOver(State* state, uint64_t lost_at_ns, flint_limiter_error* error);
  int32_t Late(flint_limiter_error* error) const;
  int32_t Lost(flint_limiter_error* error) const;
  // Whether a check is answered all the same, as on_error says.
  bool AnswersUndecided(int32_t code, const flint_limiter_config* config, uint64_t cost,
                        flint_limiter_result* result);

  flint_limiter* const limiter_;
  Home* const home_;
  const Settings settings_;
  std::atomic<State*> state_;
  std::atomic<bool> opened_{false};  // an owner has been found before: what is lost is taken over
  std::atomic<bool> shut_down_{false};  // which a forked child must know of
  std::atomic<uint64_t> undecided_{0};
};

}  // namespace flint::sharing
