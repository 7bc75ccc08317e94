#include "flint_limiter.h"

#include <exception>
#include <memory>
#include <new>
#include <stdexcept>

#include "arithmetic.h"
#include "base/small_vector.h"
#include "convert.h"
#include "engine/key.h"
#include "engine/plain_check.h"
#include "shared.h"

// The functions of the public header. Each catches everything; what they do is the engine's.

namespace {

using flint::Code;
using flint::Engine;
using flint::LimitConfig;
using flint::LimitKind;
using flint::Place;
using flint::Status;

constexpr uint32_t kChangeFlags =
    FLINT_LIMITER_NO_WAIT | FLINT_LIMITER_NO_SYNC | FLINT_LIMITER_IF_ABSENT;
constexpr uint32_t kEndFlags = FLINT_LIMITER_NO_WAIT | FLINT_LIMITER_NO_SYNC;
constexpr uint32_t kCheckFlags =
    FLINT_LIMITER_NO_WAIT | FLINT_LIMITER_NO_SYNC | FLINT_LIMITER_DECISION_ONLY;
// The stride of one limit, however large its caller knows it.
constexpr uint64_t kOneConfig = UINT64_MAX & ~uint64_t{7};
constexpr char kMemoryPath[] = ":memory:";

// Allocates nothing: this may be where the lack of memory is reported.
int32_t Report(Code code, const Status::Detail* detail, std::string_view message,
               flint_limiter_error* error) {
  if (code != Code::kOk && error != nullptr) flint::WriteError(code, detail, message, error);
  return static_cast<int32_t>(code);
}

// A program that did not ask for BUSY may not know it.
Code ToldAs(const flint_limiter* limiter, Code code) {
  const bool unknown = limiter == nullptr || !limiter->tell_busy;
  return code == Code::kBusy && unknown ? Code::kWouldBlock : code;
}

int32_t ReportFailure(const flint_limiter* limiter, const Status& status,
                      flint_limiter_error* error) {
  const Code code = ToldAs(limiter, status.code());
  const Status::Detail* const detail = status.detail();
  std::string_view message = flint::CodeSentence(code);
  if (detail != nullptr) message = detail->message;
  return Report(code, detail, message, error);
}

// In a handler of any exception: none crosses into the caller.
[[gnu::cold]] int32_t ReportException(flint_limiter_error* error) {
  try {
    throw;
  } catch (const std::bad_alloc&) {
    return Report(Code::kNoMemory, nullptr, flint::CodeSentence(Code::kNoMemory), error);
  } catch (const std::length_error&) {  // a count so large that its size overflows
    return Report(Code::kNoMemory, nullptr, flint::CodeSentence(Code::kNoMemory), error);
  } catch (const std::exception& exception) {
    return Report(Code::kInternal, nullptr, exception.what(), error);
  } catch (...) {
    return Report(Code::kInternal, nullptr, "an unknown exception", error);
  }
}

// Runs a function's body, a callable that returns a Status. `limiter` may be null.
template <typename Body>
int32_t Guard(const flint_limiter* limiter, flint_limiter_error* error, const Body& body) {
  try {
    const Status status = body();
    if (status.ok()) [[likely]]
      return FLINT_LIMITER_OK;
    return ReportFailure(limiter, status, error);
  } catch (...) {
    return ReportException(error);
  }
}

Status NullArgument(const char* name) {
  return Status(Code::kInvalidArgument, std::string(name) + " is NULL");
}

template <typename Body>
int32_t WithPlace(flint_limiter* limiter, flint_limiter_error* error, const Body& body) {
  return Guard(limiter, error, [&]() -> Status {
    if (limiter == nullptr) [[unlikely]]
      return NullArgument("limiter");
    return body(limiter->place.get());
  });
}

// Where another process owns the directory, what asks it; otherwise null.
flint::sharing::Member* AskedInstead(const flint_limiter* limiter) {
  return limiter != nullptr && limiter->IsClient() ? limiter->member.get() : nullptr;
}

// Asks, when what is looked at here is as it must be.
template <typename Arguments, typename Call>
[[gnu::noinline, gnu::cold]] int32_t AskInstead(flint_limiter_error* error,
                                                const Arguments& arguments, const Call& call) {
  const int32_t wrong = Guard(nullptr, error, arguments);
  if (wrong != FLINT_LIMITER_OK) return wrong;
  try {
    return call();
  } catch (...) {
    return ReportException(error);
  }
}

Status NothingToLookAt() { return Status(); }

// What a client has been answered is durable, so it has no tickets.
int32_t WaitOfClient(const flint::sharing::Member& member, uint64_t ticket,
                     flint_limiter_error* error) {
  const int32_t code = member.CheckOpen(error);
  if (code != FLINT_LIMITER_OK || ticket == 0) return code;
  return Report(Code::kInvalidArgument, nullptr, "ticket was never given out", error);
}

int32_t DurableOfClient(const flint::sharing::Member& member, uint64_t* ticket,
                        flint_limiter_error* error) {
  if (ticket == nullptr) return Report(Code::kInvalidArgument, nullptr, "ticket is NULL", error);
  *ticket = 0;
  return member.CheckOpen(error);
}

int32_t WatchOfClient(const flint::sharing::Member& member, flint_limiter_error* error) {
  const int32_t code = member.CheckOpen(error);
  if (code != FLINT_LIMITER_OK) return code;
  return Report(Code::kUnsupported, nullptr, "another process owns the directory, and syncs",
                error);
}

int32_t UnwatchOfClient(const flint::sharing::Member& member, int32_t fd,
                        flint_limiter_error* error) {
  const int32_t code = member.CheckOpen(error);
  if (code != FLINT_LIMITER_OK) return code;
  return Report(Code::kInvalidArgument, nullptr,
                "fd " + std::to_string(fd) + " is not being watched", error);
}

int32_t RefreshOfClient(const flint::sharing::Member& member, flint_limiter_error* error) {
  const int32_t code = member.CheckOpen(error);
  if (code != FLINT_LIMITER_OK) return code;
  return Report(Code::kInvalidArgument, nullptr, "only a limiter opened for reading is refreshed",
                error);
}

uint32_t WithUpdate(uint32_t allowed_flags, const flint_limiter_config* inline_config) {
  return inline_config == nullptr ? allowed_flags : allowed_flags | FLINT_LIMITER_UPDATE;
}

Status ReadInline(const flint_limiter_config* from, LimitConfig* to) {
  flint_limiter_config config;
  FLINT_RETURN_IF_ERROR(flint::ReadStruct(from, "inline_config", &config));
  return flint::ReadConfig(config, to);
}

// Those who wait in line, where this process owns a directory that is shared.
void TellOfChange(flint_limiter* limiter, const Place::Decision& decision) {
  if (decision.limit_changed && limiter->member != nullptr) limiter->member->LimitsHaveChanged();
}

using Decide = Status (Place::*)(const Place::Item&, const Place::Flags&, const LimitConfig*,
                                 Place::Decision*);

// Apart from what most checks take, which would have to make room for all of it.
template <Decide decide>
[[gnu::noinline]] int32_t CheckOrPeek(uint32_t allowed_flags, flint_limiter* limiter,
                                      const char* key, uint64_t key_bytes, uint64_t cost,
                                      uint32_t flags, const flint_limiter_config* inline_config,
                                      flint_limiter_result* result, flint_limiter_error* error) {
  if (flint::sharing::Member* const other = AskedInstead(limiter)) {
    std::string_view text;
    return AskInstead(
        error,
        [&]() -> Status {
          Place::Flags read;
          FLINT_RETURN_IF_ERROR(flint::CheckStruct(result, "result"));
          FLINT_RETURN_IF_ERROR(
              flint::ReadFlags(flags, WithUpdate(allowed_flags, inline_config), &read));
          return flint::ReadKey(key, key_bytes, &text);
        },
        [&] {
          const uint32_t peek = (allowed_flags & FLINT_LIMITER_REFUSE) == 0 ? 1 : 0;
          return other->Check(text, cost, flags, inline_config, peek, result, nullptr, 0, 0,
                              nullptr, error);
        });
  }
  return WithPlace(limiter, error, [&](Place* place) -> Status {
    if (result == nullptr || result->struct_size < flint::kFirstSize<flint_limiter_result>)
        [[unlikely]] {
      return flint::CheckStruct(result, "result");
    }
    Place::Flags read;
    FLINT_RETURN_IF_ERROR(flint::ReadFlags(flags, WithUpdate(allowed_flags, inline_config), &read));
    Place::Item item;
    item.cost = cost;
    FLINT_RETURN_IF_ERROR(flint::ReadKey(key, key_bytes, &item.key));
    LimitConfig config;
    if (inline_config != nullptr) FLINT_RETURN_IF_ERROR(ReadInline(inline_config, &config));
    Place::Decision decision;
    const Status status =
        (place->*decide)(item, read, inline_config == nullptr ? nullptr : &config, &decision);
    TellOfChange(limiter, decision);
    FLINT_RETURN_IF_ERROR(status);
    flint::WriteDecision(decision, read.decision_only, result);
    return Status();
  });
}

// Whether there is nothing about a check's arguments but the key and a cost.
bool AreUsual(const Engine* engine, const char* key, uint64_t key_bytes, uint32_t flags,
              const flint_limiter_config* inline_config, const flint_limiter_result* result) {
  return engine != nullptr && key != nullptr && key_bytes <= FLINT_LIMITER_MAX_KEY_BYTES &&
         (flags & ~(kCheckFlags | FLINT_LIMITER_REFUSE)) == 0 && inline_config == nullptr &&
         result != nullptr && result->struct_size >= sizeof(*result);
}

using EndLimit = Status (Place::*)(LimitKind, std::string_view, const std::string_view*,
                                   const Place::Flags&, uint64_t*);

// `name` null: whatever it is.
int32_t RemoveOrReset(bool remove, flint_limiter* limiter, const char* key, uint64_t key_bytes,
                      const char* name, uint64_t name_bytes, uint32_t kind, uint32_t flags,
                      uint64_t* ticket, flint_limiter_error* error) {
  if (flint::sharing::Member* const other = AskedInstead(limiter)) {
    std::string_view text;
    std::string_view ignored;
    return AskInstead(
        error,
        [&]() -> Status {
          Place::Flags read;
          FLINT_RETURN_IF_ERROR(flint::ReadFlags(flags, kEndFlags, &read));
          FLINT_RETURN_IF_ERROR(flint::ReadText(name, name_bytes, "name", &ignored));
          return flint::ReadKey(key, key_bytes, &text);
        },
        [&] { return other->End(remove, text, name, name_bytes, kind, flags, ticket, error); });
  }
  return WithPlace(limiter, error, [&](Place* place) -> Status {
    Place::Flags read;
    FLINT_RETURN_IF_ERROR(flint::ReadFlags(flags, kEndFlags, &read));
    LimitKind read_kind{};
    FLINT_RETURN_IF_ERROR(flint::ReadKind(kind, &read_kind));
    std::string_view view;
    FLINT_RETURN_IF_ERROR(flint::ReadKey(key, key_bytes, &view));
    std::string_view its_name;
    FLINT_RETURN_IF_ERROR(flint::ReadText(name, name_bytes, "name", &its_name));
    uint64_t last = 0;
    const EndLimit end = remove ? static_cast<EndLimit>(&Place::Remove) : &Place::Reset;
    FLINT_RETURN_IF_ERROR(
        (place->*end)(read_kind, view, name == nullptr ? nullptr : &its_name, read, &last));
    if (limiter->member != nullptr) limiter->member->LimitsHaveChanged();
    if (ticket != nullptr) *ticket = last;
    return Status();
  });
}

// Writes what each limit says to the caller's array.
class LimitResults final : public Place::EachLimit {
 public:
  LimitResults(flint_limiter_limit_result* limits, uint64_t capacity, uint64_t stride)
      : limits_(limits), capacity_(capacity), stride_(stride) {}

  void Add(std::string_view name, const Place::Decision& decision) override {
    if (count_ == capacity_) return;
    flint_limiter_limit_result* const to = flint::At(limits_, stride_, count_++);
    to->struct_size = limits_->struct_size;
    flint::WriteLimitResult(name, decision, to, stride_);
  }

 private:
  flint_limiter_limit_result* const limits_;
  const uint64_t capacity_;
  const uint64_t stride_;
  uint64_t count_ = 0;
};

Status ReadPath(const char* path, uint64_t path_bytes, std::string* read) {
  FLINT_RETURN_IF_ERROR(flint::ReadFileName(path, path_bytes, "path", read));
  if (read->empty()) return Status(Code::kInvalidArgument, "path is empty; name a directory");
  if (*read == kMemoryPath) read->clear();
  return Status();
}

Status RefuseMemory(const std::string& directory) {
  return directory.empty() ? Status(Code::kUnsupported, "in memory there are no files to read")
                           : Status();
}

using OpenEngine = Status (*)(const std::string&, Engine::Options, std::unique_ptr<Engine>*);

int32_t OpenWith(OpenEngine open, const char* path, uint64_t path_bytes,
                 const flint_limiter_options* options, flint_limiter** limiter,
                 flint_limiter_error* error) {
  return Guard(nullptr, error, [&]() -> Status {
    if (limiter == nullptr) return NullArgument("limiter");
    *limiter = nullptr;
    std::string directory;
    FLINT_RETURN_IF_ERROR(ReadPath(path, path_bytes, &directory));
    if (open == &Engine::OpenReadOnly) FLINT_RETURN_IF_ERROR(RefuseMemory(directory));
    Engine::Options read;
    FLINT_RETURN_IF_ERROR(flint::ReadOptions(options, &read));
    auto made = std::make_unique<flint_limiter>();
    made->tell_busy = read.tell_busy;
    std::unique_ptr<Engine> engine;
    FLINT_RETURN_IF_ERROR(open(directory, std::move(read), &engine));
    made->engine = engine.get();
    made->place = std::move(engine);
    *limiter = made.release();
    return Status();
  });
}

// Whether a directory is to be shared, and with which options; those that are wrong are told by
// whoever opens it.
bool IsShared(const flint_limiter_options* options, flint_limiter_options* read) {
  return options != nullptr && flint::ReadStruct(options, "options", read).ok() &&
         read->shared != 0;
}

int32_t OpenSharedWith(const char* path, uint64_t path_bytes, const flint_limiter_options& options,
                       flint_limiter** limiter, flint_limiter_error* error) {
  if (limiter != nullptr) *limiter = nullptr;
  std::string directory;
  flint_limiter_error met{};
  met.struct_size = sizeof(met);
  const auto arguments = [&]() -> Status {
    if (limiter == nullptr) return NullArgument("limiter");
    FLINT_RETURN_IF_ERROR(ReadPath(path, path_bytes, &directory));
    Engine::Options read;
    return flint::ReadOptions(&options, &read);
  };
  const int32_t code = AskInstead(&met, arguments, [&] {
    std::unique_ptr<flint_limiter> made;
    const int32_t opened = flint::OpenShared(directory, options, &made, &met);
    if (made != nullptr) made->tell_busy = options.tell_busy != 0;
    *limiter = made.release();
    return opened;
  });
  if (code != FLINT_LIMITER_OK && error != nullptr) flint::WriteStruct(met, error);
  return code;
}

// Copies as many entries as their keys leave room for.
void WritePage(const std::vector<Place::LimitStatus>& page, flint_limiter_status_info* entries,
               uint64_t stride, char* text, uint64_t text_bytes, uint64_t* count) {
  uint64_t used = 0;
  *count = 0;
  for (const Place::LimitStatus& status : page) {
    if (used + status.key.size() + status.name.size() > text_bytes) return;
    std::memcpy(text + used, status.key.data(), status.key.size());
    std::memcpy(text + used + status.key.size(), status.name.data(), status.name.size());
    flint::WriteStatus(status, text + used, flint::At(entries, stride, (*count)++), stride);
    used += status.key.size() + status.name.size();
  }
}

template <typename Entry>
Status CheckPage(const char* name, const Entry* entries, uint64_t capacity, uint64_t stride,
                 const char* text, uint64_t text_bytes, const uint64_t* count,
                 uint64_t name_bytes = 0) {
  if (count == nullptr) return NullArgument("count");
  if (text == nullptr) return NullArgument("text");
  if (text_bytes < FLINT_LIMITER_MIN_TEXT_BYTES + name_bytes) {
    const std::string least = name_bytes == 0 ? "65,536" : "65,791";
    return Status(Code::kInvalidArgument,
                  "text_bytes is " + std::to_string(text_bytes) + "; it must be at least " + least);
  }
  FLINT_RETURN_IF_ERROR(flint::CheckStride<Entry>(stride, "stride"));
  for (uint64_t i = 0; i < capacity; ++i) {
    FLINT_RETURN_IF_ERROR(flint::CheckStruct(flint::At(entries, stride, i), name));
  }
  return Status();
}

Status TooMany(uint64_t count) {
  return Status(Code::kInvalidArgument,
                "items has " + std::to_string(count) + " entries; 1 to 1,024 are allowed");
}

// Of items that are checked with one call, everything but what each of them says.
Status CheckItems(const flint_limiter_item* items, uint64_t count, uint64_t item_stride,
                  const flint_limiter_result* results, uint64_t result_stride) {
  FLINT_RETURN_IF_ERROR(flint::CheckStride<flint_limiter_item>(item_stride, "item_stride"));
  FLINT_RETURN_IF_ERROR(flint::CheckStride<flint_limiter_result>(result_stride, "result_stride"));
  if (count > FLINT_LIMITER_MAX_ITEMS) return TooMany(count);
  for (uint64_t i = 0; i < count; ++i) {
    FLINT_RETURN_IF_ERROR(flint::CheckStruct(flint::At(items, item_stride, i), "items"));
    FLINT_RETURN_IF_ERROR(flint::CheckStruct(flint::At(results, result_stride, i), "results"));
  }
  return Status();
}

// Of one that is there, which CheckItems has seen to.
Status ReadItem(const flint_limiter_item* from, Place::Item* to) {
  static_assert(flint::kFirstSize<flint_limiter_item> == sizeof(*from));
  FLINT_RETURN_IF_ERROR(flint::ReadKey(from->key, from->key_bytes, &to->key));
  to->cost = from->cost;
  return Status();
}

// All of them in one pass, where there is nothing about the items that CheckItems or ReadItem would
// have to look at twice; false where there is.
bool ReadUsualItems(const flint_limiter_item* items, uint64_t count, uint64_t item_stride,
                    const flint_limiter_result* results, uint64_t result_stride,
                    Place::Item* wanted) {
  if (item_stride < sizeof(*items) || result_stride < sizeof(*results) ||
      (item_stride | result_stride) % 8 != 0) [[unlikely]] {
    return false;
  }
  for (uint64_t i = 0; i < count; ++i) {
    const flint_limiter_item* const item = flint::At(items, item_stride, i);
    if (!flint::IsThere(item) || item->key == nullptr ||
        item->key_bytes > FLINT_LIMITER_MAX_KEY_BYTES ||
        !flint::IsThere(flint::At(results, result_stride, i))) [[unlikely]] {
      return false;
    }
    wanted[i] = {{item->key, item->key_bytes}, item->cost};
  }
  return true;
}

Status ReadItems(const flint_limiter_item* items, uint64_t count, uint64_t item_stride,
                 const flint_limiter_result* results, uint64_t result_stride, Place::Item* wanted) {
  FLINT_RETURN_IF_ERROR(CheckItems(items, count, item_stride, results, result_stride));
  for (uint64_t i = 0; i < count; ++i) {
    FLINT_RETURN_IF_ERROR(ReadItem(flint::At(items, item_stride, i), &wanted[i]));
  }
  return Status();
}

// Decisions in which nothing has been decided.
template <typename Decided>
class Undecided final : public flint::SmallVector<Decided, Place::kFewItems> {
 public:
  explicit Undecided(uint64_t count) : flint::SmallVector<Decided, Place::kFewItems>(count) {
    std::fill(this->begin(), this->end(), Decided());
  }
};

}  // namespace

int32_t flint_limiter_open(const char* path, uint64_t path_bytes,
                           const flint_limiter_options* options, flint_limiter** limiter,
                           flint_limiter_error* error) {
  flint_limiter_options read;
  if (IsShared(options, &read)) return OpenSharedWith(path, path_bytes, read, limiter, error);
  return OpenWith(&Engine::Open, path, path_bytes, options, limiter, error);
}

int32_t flint_limiter_open_readonly(const char* path, uint64_t path_bytes,
                                    const flint_limiter_options* options, flint_limiter** limiter,
                                    flint_limiter_error* error) {
  return OpenWith(&Engine::OpenReadOnly, path, path_bytes, options, limiter, error);
}

int32_t flint_limiter_connect(const char* url, uint64_t url_bytes,
                              const flint_limiter_connect_options* options, flint_limiter** limiter,
                              flint_limiter_error* error) {
  return Guard(nullptr, error, [&]() -> Status {
    if (limiter == nullptr) return NullArgument("limiter");
    *limiter = nullptr;
    std::string_view view;
    FLINT_RETURN_IF_ERROR(flint::ReadText(url, url_bytes, "url", &view));
    flint::Client::Options read;
    FLINT_RETURN_IF_ERROR(flint::ReadConnectOptions(options, &read));
    auto made = std::make_unique<flint_limiter>();
    std::unique_ptr<flint::Client> client;
    FLINT_RETURN_IF_ERROR(flint::Client::Connect(view, std::move(read), &client));
    made->place = std::move(client);
    *limiter = made.release();
    return Status();
  });
}

int32_t flint_limiter_refresh(flint_limiter* limiter, flint_limiter_error* error) {
  if (flint::sharing::Member* const other = AskedInstead(limiter)) {
    return AskInstead(error, NothingToLookAt, [&] { return RefreshOfClient(*other, error); });
  }
  return WithPlace(limiter, error, [](Place* place) { return place->Refresh(); });
}

int32_t flint_limiter_doctor(const char* path, uint64_t path_bytes,
                             flint_limiter_doctor_report* report, flint_limiter_error* error) {
  return Guard(nullptr, error, [&]() -> Status {
    FLINT_RETURN_IF_ERROR(flint::CheckStruct(report, "report"));
    std::string directory;
    FLINT_RETURN_IF_ERROR(ReadPath(path, path_bytes, &directory));
    FLINT_RETURN_IF_ERROR(RefuseMemory(directory));
    flint::DoctorReport found;
    const Status status =
        flint::Examine(flint::Env::Posix(), flint::Clock::System(), directory, &found);
    flint::WriteReport(found, report);
    return status;
  });
}

int32_t flint_limiter_shutdown(flint_limiter* limiter, flint_limiter_error* error) {
  if (limiter != nullptr && limiter->member != nullptr) {
    limiter->member->Shutdown();
    if (limiter->IsClient()) return FLINT_LIMITER_OK;
  }
  return WithPlace(limiter, error, [](Place* place) { return place->Shutdown(); });
}

int32_t flint_limiter_close(flint_limiter** limiter, flint_limiter_error* error) {
  if (limiter == nullptr || *limiter == nullptr) return FLINT_LIMITER_OK;
  flint_limiter* const closing = *limiter;
  *limiter = nullptr;
  const int32_t code = flint_limiter_shutdown(closing, error);
  // In a forked child the parent's locks may be held for ever and its threads are gone: what is
  // left of the limiter cannot be taken apart, and stays.
  if (code != FLINT_LIMITER_FORKED) delete closing;
  return code;
}

int32_t flint_limiter_limit(flint_limiter* limiter, const flint_limiter_config* config,
                            uint32_t flags, uint64_t* ticket, flint_limiter_error* error) {
  return flint_limiter_limit_many(limiter, config, 1, kOneConfig, flags, ticket, error);
}

int32_t flint_limiter_limit_many(flint_limiter* limiter, const flint_limiter_config* configs,
                                 uint64_t count, uint64_t stride, uint32_t flags, uint64_t* ticket,
                                 flint_limiter_error* error) {
  if (flint::sharing::Member* const other = AskedInstead(limiter)) {
    return AskInstead(
        error,
        [&]() -> Status {
          Place::Flags read;
          FLINT_RETURN_IF_ERROR(flint::ReadFlags(flags, kChangeFlags, &read));
          FLINT_RETURN_IF_ERROR(flint::CheckStride<flint_limiter_config>(stride, "stride"));
          for (uint64_t i = 0; i < count; ++i) {
            Place::Limit limit;
            FLINT_RETURN_IF_ERROR(flint::ReadLimit(flint::At(configs, stride, i), stride, &limit));
          }
          return Status();
        },
        [&] { return other->LimitMany(configs, count, stride, flags, ticket, error); });
  }
  return WithPlace(limiter, error, [&](Place* place) -> Status {
    Place::Flags read;
    FLINT_RETURN_IF_ERROR(flint::ReadFlags(flags, kChangeFlags, &read));
    FLINT_RETURN_IF_ERROR(flint::CheckStride<flint_limiter_config>(stride, "stride"));
    std::vector<Place::Limit> limits(count);
    for (uint64_t i = 0; i < count; ++i) {
      FLINT_RETURN_IF_ERROR(flint::ReadLimit(flint::At(configs, stride, i), stride, &limits[i]));
    }
    uint64_t last = 0;
    FLINT_RETURN_IF_ERROR(place->ConfigureMany(limits, read, &last));
    if (limiter->member != nullptr) limiter->member->LimitsHaveChanged();
    if (ticket != nullptr) *ticket = last;
    return Status();
  });
}

int32_t flint_limiter_remove(flint_limiter* limiter, const char* key, uint64_t key_bytes,
                             uint32_t kind, uint32_t flags, uint64_t* ticket,
                             flint_limiter_error* error) {
  return flint_limiter_remove_named(limiter, key, key_bytes, nullptr, 0, kind, flags, ticket,
                                    error);
}

int32_t flint_limiter_remove_named(flint_limiter* limiter, const char* key, uint64_t key_bytes,
                                   const char* name, uint64_t name_bytes, uint32_t kind,
                                   uint32_t flags, uint64_t* ticket, flint_limiter_error* error) {
  return RemoveOrReset(true, limiter, key, key_bytes, name, name_bytes, kind, flags, ticket, error);
}

int32_t flint_limiter_reset_named(flint_limiter* limiter, const char* key, uint64_t key_bytes,
                                  const char* name, uint64_t name_bytes, uint32_t kind,
                                  uint32_t flags, uint64_t* ticket, flint_limiter_error* error) {
  return RemoveOrReset(false, limiter, key, key_bytes, name, name_bytes, kind, flags, ticket,
                       error);
}

int32_t flint_limiter_reset(flint_limiter* limiter, const char* key, uint64_t key_bytes,
                            uint32_t kind, uint32_t flags, uint64_t* ticket,
                            flint_limiter_error* error) {
  return flint_limiter_reset_named(limiter, key, key_bytes, nullptr, 0, kind, flags, ticket, error);
}

int32_t flint_limiter_check(flint_limiter* limiter, const char* key, uint64_t key_bytes,
                            uint64_t cost, uint32_t flags,
                            const flint_limiter_config* inline_config, flint_limiter_result* result,
                            flint_limiter_error* error) {
  Engine* const engine =
      limiter == nullptr ? nullptr : limiter->engine.load(std::memory_order_acquire);
  if (AreUsual(engine, key, key_bytes, flags, inline_config, result)) [[likely]] {
    // Nobody waits for the disk here, so NO_SYNC says nothing.
    Place::Flags read;
    read.no_wait = (flags & FLINT_LIMITER_NO_WAIT) != 0;
    read.decision_only = (flags & FLINT_LIMITER_DECISION_ONLY) != 0;
    read.refuse = (flags & FLINT_LIMITER_REFUSE) != 0;
    bool decided = false;
    try {
      decided = engine->CheckPlain(
          {{key, key_bytes}, cost},
          read, [&](const Place::Decision& decision) __attribute__((always_inline)) {
            if (read.decision_only) {
              flint::FillDecisionOnly(decision, result);
            } else {
              flint::FillResult(decision, result);
            }
          });
    } catch (const std::bad_alloc&) {
      decided = false;  // what is answered then is said below
    } catch (...) {
      return ReportException(error);
    }
    if (decided) [[likely]]
      return FLINT_LIMITER_OK;
  }
  return CheckOrPeek<&Place::CheckInFull>(kCheckFlags | FLINT_LIMITER_REFUSE, limiter, key,
                                          key_bytes, cost, flags, inline_config, result, error);
}

int32_t flint_limiter_peek(flint_limiter* limiter, const char* key, uint64_t key_bytes,
                           uint64_t cost, uint32_t flags, const flint_limiter_config* inline_config,
                           flint_limiter_result* result, flint_limiter_error* error) {
  return CheckOrPeek<&Place::Peek>(kCheckFlags, limiter, key, key_bytes, cost, flags, inline_config,
                                   result, error);
}

int32_t flint_limiter_check_limits(flint_limiter* limiter, const char* key, uint64_t key_bytes,
                                   uint64_t cost, uint32_t flags,
                                   const flint_limiter_config* inline_config, uint32_t peek,
                                   flint_limiter_result* result, flint_limiter_limit_result* limits,
                                   uint64_t capacity, uint64_t stride, uint64_t* count,
                                   flint_limiter_error* error) {
  if (flint::sharing::Member* const other = AskedInstead(limiter)) {
    std::string_view text;
    return AskInstead(
        error,
        [&]() -> Status {
          if (count == nullptr) return NullArgument("count");
          if (peek > 1) return Status(Code::kInvalidArgument, "peek is neither 0 nor 1");
          FLINT_RETURN_IF_ERROR(flint::CheckStruct(result, "result"));
          if (capacity > 0) {
            FLINT_RETURN_IF_ERROR(flint::CheckStride<flint_limiter_limit_result>(stride, "stride"));
            FLINT_RETURN_IF_ERROR(flint::CheckStruct(limits, "limits"));
          }
          return flint::ReadKey(key, key_bytes, &text);
        },
        [&] {
          return other->Check(text, cost, flags, inline_config, peek, result, limits, capacity,
                              stride, count, error);
        });
  }
  return WithPlace(limiter, error, [&](Place* place) -> Status {
    if (count == nullptr) return NullArgument("count");
    if (peek > 1) return Status(Code::kInvalidArgument, "peek is neither 0 nor 1");
    FLINT_RETURN_IF_ERROR(flint::CheckStruct(result, "result"));
    if (capacity > 0) {
      FLINT_RETURN_IF_ERROR(flint::CheckStride<flint_limiter_limit_result>(stride, "stride"));
      FLINT_RETURN_IF_ERROR(flint::CheckStruct(limits, "limits"));
    }
    Place::Flags read;
    const uint32_t allowed_flags = peek == 1 ? kCheckFlags : kCheckFlags | FLINT_LIMITER_REFUSE;
    FLINT_RETURN_IF_ERROR(flint::ReadFlags(flags, WithUpdate(allowed_flags, inline_config), &read));
    Place::Item item;
    item.cost = cost;
    FLINT_RETURN_IF_ERROR(flint::ReadKey(key, key_bytes, &item.key));
    LimitConfig config;
    if (inline_config != nullptr) FLINT_RETURN_IF_ERROR(ReadInline(inline_config, &config));
    const LimitConfig* const of_call = inline_config == nullptr ? nullptr : &config;
    LimitResults each(limits, capacity, stride);
    Place::Decision decision;
    decision.each = &each;
    const Status status = peek == 1 ? place->Peek(item, read, of_call, &decision)
                                    : place->Check(item, read, of_call, &decision);
    TellOfChange(limiter, decision);
    FLINT_RETURN_IF_ERROR(status);
    flint::WriteDecision(decision, read.decision_only, result);
    *count = decision.limit_count;
    return Status();
  });
}

int32_t flint_limiter_check_all(flint_limiter* limiter, const flint_limiter_item* items,
                                uint64_t count, uint64_t item_stride, uint32_t flags,
                                flint_limiter_result* results, uint64_t result_stride,
                                uint64_t* denied_index, flint_limiter_error* error) {
  if (flint::sharing::Member* const other = AskedInstead(limiter)) {
    return AskInstead(
        error,
        [&]() -> Status {
          if (denied_index == nullptr) return NullArgument("denied_index");
          return CheckItems(items, count, item_stride, results, result_stride);
        },
        [&] {
          return other->CheckAll(items, count, item_stride, flags, results, result_stride,
                                 denied_index, error);
        });
  }
  return WithPlace(limiter, error, [&](Place* place) -> Status {
    if (denied_index == nullptr) return NullArgument("denied_index");
    Place::Flags read;
    FLINT_RETURN_IF_ERROR(flint::ReadFlags(flags, kCheckFlags, &read));
    if (count > FLINT_LIMITER_MAX_ITEMS) {
      return CheckItems(items, count, item_stride, results, result_stride);
    }
    flint::SmallVector<Place::Item, Place::kFewItems> wanted(count);
    if (!ReadUsualItems(items, count, item_stride, results, result_stride, wanted.data())) {
      FLINT_RETURN_IF_ERROR(
          ReadItems(items, count, item_stride, results, result_stride, wanted.data()));
    }
    Undecided<Place::Decision> decisions(count);
    size_t denied = 0;
    FLINT_RETURN_IF_ERROR(place->CheckAll({wanted.data(), count}, read, decisions.data(), &denied));
    for (uint64_t i = 0; i < count && i <= denied; ++i) {
      flint::WriteDecision(decisions[i], read.decision_only, flint::At(results, result_stride, i),
                           result_stride);
    }
    *denied_index = denied;
    return Status();
  });
}

int32_t flint_limiter_check_many(flint_limiter* limiter, const flint_limiter_item* items,
                                 uint64_t count, uint64_t item_stride, uint32_t flags,
                                 flint_limiter_result* results, uint64_t result_stride,
                                 int32_t* codes, flint_limiter_error* error) {
  if (flint::sharing::Member* const other = AskedInstead(limiter)) {
    return AskInstead(
        error,
        [&]() -> Status {
          if (codes == nullptr) return NullArgument("codes");
          return CheckItems(items, count, item_stride, results, result_stride);
        },
        [&] {
          return other->CheckMany(items, count, item_stride, flags, results, result_stride, codes,
                                  error);
        });
  }
  return WithPlace(limiter, error, [&](Place* place) -> Status {
    if (codes == nullptr) return NullArgument("codes");
    Place::Flags read;
    FLINT_RETURN_IF_ERROR(flint::ReadFlags(flags, kCheckFlags, &read));
    FLINT_RETURN_IF_ERROR(CheckItems(items, count, item_stride, results, result_stride));
    if (count == 0) return TooMany(count);
    flint::SmallVector<Place::Item, Place::kFewItems> wanted(count);
    Undecided<Place::Answer> answers(count);
    for (uint64_t i = 0; i < count; ++i) {
      answers[i].code = ReadItem(flint::At(items, item_stride, i), &wanted[i]).code();
    }
    FLINT_RETURN_IF_ERROR(place->CheckMany({wanted.data(), count}, read, {answers.data(), count}));
    for (uint64_t i = 0; i < count; ++i) {
      codes[i] = static_cast<int32_t>(ToldAs(limiter, answers[i].code));
      if (answers[i].code != Code::kOk) continue;
      flint::WriteDecision(answers[i].decision, read.decision_only,
                           flint::At(results, result_stride, i), result_stride);
    }
    return Status();
  });
}

int32_t flint_limiter_status(flint_limiter* limiter, const char* key, uint64_t key_bytes,
                             uint32_t kind, flint_limiter_status_info* status,
                             flint_limiter_error* error) {
  return flint_limiter_status_named(limiter, key, key_bytes, nullptr, 0, kind, status, error);
}

int32_t flint_limiter_status_named(flint_limiter* limiter, const char* key, uint64_t key_bytes,
                                   const char* name, uint64_t name_bytes, uint32_t kind,
                                   flint_limiter_status_info* status, flint_limiter_error* error) {
  if (flint::sharing::Member* const other = AskedInstead(limiter)) {
    std::string_view text;
    std::string_view its_name;
    return AskInstead(
        error,
        [&]() -> Status {
          FLINT_RETURN_IF_ERROR(flint::CheckStruct(status, "status"));
          FLINT_RETURN_IF_ERROR(flint::ReadText(name, name_bytes, "name", &its_name));
          return flint::ReadKey(key, key_bytes, &text);
        },
        [&] { return other->Status(text, its_name, kind, status, error); });
  }
  return WithPlace(limiter, error, [&](Place* place) -> Status {
    FLINT_RETURN_IF_ERROR(flint::CheckStruct(status, "status"));
    LimitKind read_kind{};
    FLINT_RETURN_IF_ERROR(flint::ReadKind(kind, &read_kind));
    std::string_view view;
    FLINT_RETURN_IF_ERROR(flint::ReadKey(key, key_bytes, &view));
    const bool is_template = read_kind == LimitKind::kTemplate;
    FLINT_RETURN_IF_ERROR(is_template ? flint::CheckPrefix(view) : flint::CheckKey(view));
    std::string_view its_name;
    FLINT_RETURN_IF_ERROR(flint::ReadText(name, name_bytes, "name", &its_name));
    Place::LimitStatus found;
    FLINT_RETURN_IF_ERROR(place->StatusOf(read_kind, view, its_name, &found));
    flint::WriteStatus(found, nullptr, status);
    return Status();
  });
}

int32_t flint_limiter_list(flint_limiter* limiter, const char* after, uint64_t after_bytes,
                           uint32_t after_kind, uint32_t flags, flint_limiter_status_info* entries,
                           uint64_t capacity, uint64_t stride, char* text, uint64_t text_bytes,
                           uint64_t* count, flint_limiter_error* error) {
  if (flint::sharing::Member* const other = AskedInstead(limiter)) {
    return AskInstead(
        error,
        [&] { return CheckPage("entries", entries, capacity, stride, text, text_bytes, count); },
        [&] {
          return other->List(after, after_bytes, after_kind, flags, entries, capacity, stride, text,
                             text_bytes, count, error);
        });
  }
  return WithPlace(limiter, error, [&](Place* place) -> Status {
    Place::Flags read;
    FLINT_RETURN_IF_ERROR(flint::ReadFlags(flags, FLINT_LIMITER_ALL_COUNTERS, &read));
    FLINT_RETURN_IF_ERROR(CheckPage("entries", entries, capacity, stride, text, text_bytes, count));
    if (after_kind > FLINT_LIMITER_KIND_INLINE) {
      return Status(Code::kInvalidArgument, "after_kind is " + std::to_string(after_kind) +
                                                "; it must be a kind, between 0 and 3");
    }
    std::string_view view;
    FLINT_RETURN_IF_ERROR(flint::ReadText(after, after_bytes, "after", &view));
    std::vector<Place::LimitStatus> page;
    FLINT_RETURN_IF_ERROR(place->List(after == nullptr ? nullptr : &view,
                                      static_cast<LimitKind>(after_kind), read, capacity,
                                      text_bytes, &page));
    WritePage(page, entries, stride, text, text_bytes, count);
    return Status();
  });
}

int32_t flint_limiter_list_page(flint_limiter* limiter, const char* cursor, uint64_t cursor_bytes,
                                uint32_t flags, flint_limiter_status_info* entries,
                                uint64_t capacity, uint64_t stride, char* text, uint64_t text_bytes,
                                uint64_t* count, char* next_cursor, uint64_t* next_cursor_bytes,
                                flint_limiter_error* error) {
  if (flint::sharing::Member* const other = AskedInstead(limiter)) {
    std::string_view view;
    return AskInstead(
        error,
        [&]() -> Status {
          FLINT_RETURN_IF_ERROR(CheckPage("entries", entries, capacity, stride, text, text_bytes,
                                          count, FLINT_LIMITER_MAX_NAME_BYTES));
          if (next_cursor == nullptr) return NullArgument("next_cursor");
          if (next_cursor_bytes == nullptr) return NullArgument("next_cursor_bytes");
          return flint::ReadText(cursor, cursor_bytes, "cursor", &view);
        },
        [&] {
          return other->ListPage(view, flags, entries, capacity, stride, text, text_bytes, count,
                                 next_cursor, next_cursor_bytes, error);
        });
  }
  return WithPlace(limiter, error, [&](Place* place) -> Status {
    Place::Flags read;
    FLINT_RETURN_IF_ERROR(flint::ReadFlags(flags, FLINT_LIMITER_ALL_COUNTERS, &read));
    // A longest key with a longest name must have room, or the listing would end there.
    FLINT_RETURN_IF_ERROR(CheckPage("entries", entries, capacity, stride, text, text_bytes, count,
                                    FLINT_LIMITER_MAX_NAME_BYTES));
    if (next_cursor == nullptr) return NullArgument("next_cursor");
    if (next_cursor_bytes == nullptr) return NullArgument("next_cursor_bytes");
    std::string_view view;
    FLINT_RETURN_IF_ERROR(flint::ReadText(cursor, cursor_bytes, "cursor", &view));
    flint::Listing::Position after;
    if (!view.empty() &&
        (view.size() > FLINT_LIMITER_MAX_CURSOR_BYTES || !flint::ReadCursor(view, &after))) {
      return Status(Code::kInvalidArgument, "cursor is not what a page has written");
    }
    std::vector<Place::LimitStatus> page;
    FLINT_RETURN_IF_ERROR(place->ListBehind(
        view.empty() ? nullptr : &after, {read.all_counters, capacity, text_bytes, false}, &page));
    WritePage(page, entries, stride, text, text_bytes, count);
    std::string next(view);
    if (*count > 0) {
      const Place::LimitStatus& last = page[*count - 1];
      next = flint::CursorOf({last.key, last.kind, last.name});
    }
    std::memcpy(next_cursor, next.data(), next.size());
    *next_cursor_bytes = next.size();
    return Status();
  });
}

int32_t flint_limiter_top(flint_limiter* limiter, uint32_t by, uint32_t flags,
                          flint_limiter_status_info* entries, uint64_t capacity, uint64_t stride,
                          char* text, uint64_t text_bytes, uint64_t* count,
                          flint_limiter_error* error) {
  if (flint::sharing::Member* const other = AskedInstead(limiter)) {
    return AskInstead(
        error,
        [&] { return CheckPage("entries", entries, capacity, stride, text, text_bytes, count); },
        [&] {
          return other->Top(by, flags, entries, capacity, stride, text, text_bytes, count, error);
        });
  }
  return WithPlace(limiter, error, [&](Place* place) -> Status {
    Place::Flags read;
    FLINT_RETURN_IF_ERROR(flint::ReadFlags(flags, FLINT_LIMITER_ALL_COUNTERS, &read));
    FLINT_RETURN_IF_ERROR(CheckPage("entries", entries, capacity, stride, text, text_bytes, count));
    if (by > FLINT_LIMITER_BY_ALLOWED_COST) {
      return Status(Code::kInvalidArgument, "by is " + std::to_string(by) +
                                                "; it must be between 0 (denied) and 3 "
                                                "(allowed cost)");
    }
    std::vector<Place::LimitStatus> top;
    FLINT_RETURN_IF_ERROR(place->Top(static_cast<Place::TopBy>(by), read, capacity, &top));
    WritePage(top, entries, stride, text, text_bytes, count);
    return Status();
  });
}

int32_t flint_limiter_get_info(flint_limiter* limiter, flint_limiter_info* info,
                               flint_limiter_error* error) {
  if (flint::sharing::Member* const other = AskedInstead(limiter)) {
    return AskInstead(
        error, [&] { return flint::CheckStruct(info, "info"); },
        [&] { return other->Info(info, error); });
  }
  return WithPlace(limiter, error, [&](Place* place) -> Status {
    FLINT_RETURN_IF_ERROR(flint::CheckStruct(info, "info"));
    Place::Info found;
    FLINT_RETURN_IF_ERROR(place->GetInfo(&found));
    flint::WriteInfo(found, limiter->member != nullptr, info);
    return Status();
  });
}

int32_t flint_limiter_history(flint_limiter* limiter, const char* key, uint64_t key_bytes,
                              const flint_limiter_history_query* query, flint_limiter_event* events,
                              uint64_t capacity, uint64_t stride, char* text, uint64_t text_bytes,
                              uint64_t* count, uint64_t* next_cursor, flint_limiter_error* error) {
  if (flint::sharing::Member* const other = AskedInstead(limiter)) {
    std::string_view view;
    return AskInstead(
        error,
        [&]() -> Status {
          FLINT_RETURN_IF_ERROR(flint::CheckStruct(query, "query"));
          FLINT_RETURN_IF_ERROR(
              CheckPage("events", events, capacity, stride, text, text_bytes, count));
          if (next_cursor == nullptr) return NullArgument("next_cursor");
          return flint::ReadKey(key, key_bytes, &view);
        },
        [&] {
          return other->History(key, key_bytes, query, events, capacity, stride, text, text_bytes,
                                count, next_cursor, error);
        });
  }
  return WithPlace(limiter, error, [&](Place* place) -> Status {
    flint::HistoryQuery read;
    FLINT_RETURN_IF_ERROR(flint::ReadHistoryQuery(query, &read));
    FLINT_RETURN_IF_ERROR(CheckPage("events", events, capacity, stride, text, text_bytes, count));
    if (next_cursor == nullptr) return NullArgument("next_cursor");
    FLINT_RETURN_IF_ERROR(flint::ReadKey(key, key_bytes, &read.key));
    read.has_key = key != nullptr;
    read.capacity = capacity;
    read.text_bytes = text_bytes;
    flint::HistoryPage page;
    FLINT_RETURN_IF_ERROR(place->History(read, &page));
    *count = 0;
    for (const flint::HistoryEvent& event : page.events) {
      flint::WriteEvent(event, text, flint::At(events, stride, *count), stride);
      *count += event.items.size();
      for (const flint::HistoryItem& item : event.items) {
        text += item.key.size() + item.name.size();
      }
    }
    *next_cursor = page.next_cursor;
    return Status();
  });
}

int32_t flint_limiter_flush(flint_limiter* limiter, flint_limiter_error* error) {
  if (flint::sharing::Member* const other = AskedInstead(limiter)) {
    return AskInstead(error, NothingToLookAt, [&] { return other->Flush(error); });
  }
  return WithPlace(limiter, error, [](Place* place) { return place->Flush(); });
}

int32_t flint_limiter_wait(flint_limiter* limiter, uint64_t ticket, uint64_t timeout_ns,
                           flint_limiter_error* error) {
  if (flint::sharing::Member* const other = AskedInstead(limiter)) {
    return AskInstead(error, NothingToLookAt, [&] { return WaitOfClient(*other, ticket, error); });
  }
  return WithPlace(limiter, error, [&](Place* place) { return place->Wait(ticket, timeout_ns); });
}

int32_t flint_limiter_durable(flint_limiter* limiter, uint64_t* ticket,
                              flint_limiter_error* error) {
  if (flint::sharing::Member* const other = AskedInstead(limiter)) {
    return AskInstead(error, NothingToLookAt,
                      [&] { return DurableOfClient(*other, ticket, error); });
  }
  return WithPlace(limiter, error, [&](Place* place) {
    return ticket == nullptr ? NullArgument("ticket") : place->Durable(ticket);
  });
}

int32_t flint_limiter_watch(flint_limiter* limiter, int32_t* fd, flint_limiter_error* error) {
  if (flint::sharing::Member* const other = AskedInstead(limiter)) {
    return AskInstead(error, NothingToLookAt, [&] { return WatchOfClient(*other, error); });
  }
  return WithPlace(limiter, error, [&](Place* place) {
    return fd == nullptr ? NullArgument("fd") : place->Watch(fd);
  });
}

int32_t flint_limiter_unwatch(flint_limiter* limiter, int32_t fd, flint_limiter_error* error) {
  if (flint::sharing::Member* const other = AskedInstead(limiter)) {
    return AskInstead(error, NothingToLookAt, [&] { return UnwatchOfClient(*other, fd, error); });
  }
  return WithPlace(limiter, error, [&](Place* place) { return place->Unwatch(fd); });
}

int32_t flint_limiter_compact(flint_limiter* limiter, uint32_t flags, flint_limiter_error* error) {
  if (flint::sharing::Member* const other = AskedInstead(limiter)) {
    return AskInstead(error, NothingToLookAt, [&] { return other->Compact(flags, error); });
  }
  return WithPlace(limiter, error, [&](Place* place) -> Status {
    Place::Flags read;
    FLINT_RETURN_IF_ERROR(flint::ReadFlags(flags, FLINT_LIMITER_NO_WAIT, &read));
    return place->Compact(read);
  });
}

int32_t flint_limiter_get_span(const flint_limiter_config* config, uint64_t units,
                               flint_limiter_span* span, flint_limiter_error* error) {
  return Guard(nullptr, error, [&] { return flint::GetSpan(config, units, span); });
}

int32_t flint_limiter_decide(const flint_limiter_config* config, flint_limiter_state* state,
                             int64_t now_ns, uint64_t cost, flint_limiter_result* result,
                             flint_limiter_error* error) {
  return Guard(nullptr, error,
               [&] { return flint::DecideState(config, state, now_ns, cost, result); });
}

int32_t flint_limiter_describe(const flint_limiter_config* config, const flint_limiter_state* state,
                               int64_t now_ns, uint64_t cost, uint32_t allowed,
                               flint_limiter_result* result, flint_limiter_error* error) {
  return Guard(nullptr, error,
               [&] { return flint::DescribeState(config, state, now_ns, cost, allowed, result); });
}

const char* flint_limiter_version(void) { return "1.1.0"; }

const char* flint_limiter_code_text(int32_t code) {
  return flint::CodeSentence(static_cast<Code>(code));
}

const char* flint_limiter_code_name(int32_t code) {
  return flint::CodeName(static_cast<Code>(code));
}
