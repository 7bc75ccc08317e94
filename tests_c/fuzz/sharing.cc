// What the processes that share a directory say to each other, both ends of it. The first byte says
// what the rest is: a request's body that an owner performs, all that a client sends to an owner,
// the body of a reply to one of a client's calls, which the second byte names, or all that an owner
// answers to it before it hangs up.
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include "flint_limiter.h"
#include "sharing/channel.h"
#include "sharing/member.h"
#include "sharing/message.h"
#include "sharing/owner.h"
#include "sharing/requests.h"
#include "sharing/socket.h"
#include "temporary_directory.h"

namespace flint::sharing {
namespace {

// Limits that requests make are thrown away now and then.
constexpr int kRunsOfALimiter = 512;
constexpr uint64_t kTimeoutNs = 60'000'000'000;
constexpr uint64_t kEntries = 16;
constexpr uint64_t kTextBytes = 1024;

void Require(bool condition) {
  if (!condition) std::abort();
}

flint_limiter* NewLimiter() {
  flint_limiter_options options{};
  options.struct_size = sizeof(options);
  flint_limiter* limiter = nullptr;
  constexpr std::string_view kMemory = ":memory:";
  Require(flint_limiter_open(kMemory.data(), kMemory.size(), &options, &limiter, nullptr) ==
          FLINT_LIMITER_OK);
  flint_limiter_config config{};
  config.struct_size = sizeof(config);
  config.key = "k";
  config.key_bytes = 1;
  config.rate = 5;
  config.per_ns = 1'000'000'000;
  config.algorithm = FLINT_LIMITER_TOKEN_BUCKET;
  Require(flint_limiter_limit(limiter, &config, 0, nullptr, nullptr) == FLINT_LIMITER_OK);
  return limiter;
}

// ---- An owner that is asked ------------------------------------------------------------------

// Serves a limiter in memory.
class Asked {
 public:
  explicit Asked(const std::string& directory) : limiter_(NewLimiter()) {
    Owner::Settings settings;
    settings.directory = directory;
    owner_ = std::make_unique<Owner>(limiter_, settings);
    Require(owner_->Prepare(nullptr) == FLINT_LIMITER_OK);
    owner_->Begin();
  }
  ~Asked() {
    owner_->Stop();
    flint_limiter_close(&limiter_, nullptr);
  }
  Asked(const Asked&) = delete;
  Asked& operator=(const Asked&) = delete;

  flint_limiter* limiter() { return limiter_; }

  static const std::string& Directory() {
    static const TemporaryDirectory directory;
    return directory.path();
  }
  static Asked& Now() {
    const std::string& directory = Directory();
    static std::unique_ptr<Asked> now;
    static int runs = 0;
    if (runs++ % kRunsOfALimiter == 0) {
      now.reset();
      now = std::make_unique<Asked>(directory);
    }
    return *now;
  }

 private:
  flint_limiter* limiter_;
  std::unique_ptr<Owner> owner_;
};

// Every reply is one, and says it in the code that it came with.
void RequireReply(std::string_view message, int32_t code) {
  uint32_t length = 0;
  Require(message.size() >= sizeof(length) + sizeof(code));
  std::memcpy(&length, message.data(), sizeof(length));
  Require(length == message.size() - sizeof(length) && length <= kMaxReplyBytes);
  Require(std::memcmp(message.data() + sizeof(length), &code, sizeof(code)) == 0);
}

void PerformOne(std::string_view body) {
  Asked& asked = Asked::Now();
  static_cast<void>(LengthOf(body));
  std::string why;
  Require((CheckGreeting(body, FLINT_LIMITER_SYNC_ALWAYS, &why) == FLINT_LIMITER_OK) ==
          why.empty());
  const Answer answer =
      Perform(asked.limiter(), body, FLINT_LIMITER_NO_WAIT | FLINT_LIMITER_NO_SYNC);
  RequireReply(answer.reply, answer.code);
}

// Sends everything, and reads until the owner has had enough of it.
void SendAll(std::string_view bytes) {
  Asked::Now();
  Socket stream;
  Require(Connect(Asked::Directory(), kTimeoutNs, &stream) == 0);
  const std::string greeting = GreetingMessage(FLINT_LIMITER_SYNC_ALWAYS);
  for (const std::string_view part : {std::string_view(greeting), bytes}) {
    static_cast<void>(send(stream.get(), part.data(), part.size(), MSG_NOSIGNAL));
  }
  shutdown(stream.get(), SHUT_WR);
  std::string answered;
  std::array<char, 65536> buffer{};
  for (;;) {
    const ssize_t got = recv(stream.get(), buffer.data(), buffer.size(), 0);
    if (got < 0 && errno == EINTR) continue;  // libFuzzer looks at its clock
    // What an owner has not read when it hangs up may keep its answer from here.
    if (got < 0 && errno == ECONNRESET) return;
    Require(got >= 0);
    if (got == 0) break;
    answered.append(buffer.data(), static_cast<size_t>(got));
  }
  // Whole replies, the first of them to the greeting.
  std::string_view rest(answered);
  for (bool first = true; !rest.empty(); first = false) {
    uint32_t length = 0;
    std::memcpy(&length, rest.data(), std::min(rest.size(), sizeof(length)));
    Require(rest.size() >= sizeof(length) + length && length >= sizeof(int32_t));
    if (first) RequireReply(rest.substr(0, sizeof(length) + length), FLINT_LIMITER_OK);
    rest.remove_prefix(sizeof(length) + length);
  }
}

// ---- A client that is answered ---------------------------------------------------------------

// The directory belongs to somebody else.
class Elsewhere final : public Member::Home {
 public:
  int32_t Open(flint_limiter_error* error) override {
    return Fail(FLINT_LIMITER_LOCKED, "locked", error);
  }
  void Discard() override {}
  void MoveIn() override { Require(false); }
  void LeaveInChild() override {}
};

// Listens, welcomes whoever greets, and answers what it has been given; then it hangs up, unless
// what it has answered is one whole reply.
class Answers {
 public:
  explicit Answers(const std::string& directory) {
    Require(Listen(directory, &listener_) == 0);
    std::thread([this] { Run(); }).detach();
  }

  void Set(std::string answer, bool hangs_up) {
    const std::lock_guard<std::mutex> lock(mutex_);
    answer_ = std::move(answer);
    hangs_up_ = hangs_up;
  }

 private:
  [[noreturn]] void Run() {
    for (;;) {
      Await(listener_.get());
      Socket stream;
      if (stream.OpenAccepted(listener_.get()) == 0) Serve(stream.get());
    }
  }
  void Serve(int stream) {
    const std::string welcome = Writer().Put(int32_t{FLINT_LIMITER_OK}).Finish();
    for (bool greeted = false;; greeted = true) {
      Await(stream);
      char request[8192];
      if (recv(stream, request, sizeof(request), 0) <= 0) return;
      const std::lock_guard<std::mutex> lock(mutex_);
      const std::string& answer = greeted ? answer_ : welcome;
      static_cast<void>(send(stream, answer.data(), answer.size(), MSG_NOSIGNAL));
      if (greeted && hangs_up_) return;
    }
  }
  static void Await(int fd) {
    pollfd wanted{fd, POLLIN, 0};
    poll(&wanted, 1, -1);
  }

  Socket listener_;
  std::mutex mutex_;
  std::string answer_;
  bool hangs_up_ = false;
};

template <typename T, size_t kCount>
std::array<T, kCount> Sized() {
  std::array<T, kCount> made{};
  for (T& one : made) one.struct_size = sizeof(T);
  return made;
}

// Room for what a call fills.
struct Room {
  std::array<flint_limiter_result, kEntries> results = Sized<flint_limiter_result, kEntries>();
  std::array<flint_limiter_limit_result, kEntries> limits =
      Sized<flint_limiter_limit_result, kEntries>();
  std::array<flint_limiter_status_info, kEntries> statuses =
      Sized<flint_limiter_status_info, kEntries>();
  std::array<flint_limiter_event, kEntries> events = Sized<flint_limiter_event, kEntries>();
  std::array<int32_t, kEntries> codes{};
  std::array<char, kTextBytes> text{};
  std::array<char, FLINT_LIMITER_MAX_CURSOR_BYTES> cursor{};
  flint_limiter_error error = NoError();
  uint64_t count = 0;
  uint64_t next = 0;

  // What it points to is in the text.
  template <typename Entry>
  void RequireInText(const Entry& one) const {
    const char* const end = text.data() + text.size();
    for (const auto& [at, bytes] :
         {std::pair(one.key, one.key_bytes), std::pair(one.name, one.name_bytes)}) {
      Require(at >= text.data() && at <= end && bytes <= static_cast<uint64_t>(end - at));
    }
  }
};

int32_t CallOne(Member* member, uint8_t which, Room* room) {
  flint_limiter_item items[2] = {};
  for (flint_limiter_item& one : items) {
    one.struct_size = sizeof(one);
    one.key = "k";
    one.key_bytes = one.cost = 1;
  }
  auto history = Sized<flint_limiter_history_query, 1>()[0];
  auto info = Sized<flint_limiter_info, 1>()[0];
  flint_limiter_error* const error = &room->error;
  constexpr uint64_t kStride = sizeof(flint_limiter_status_info);
  char* const text = room->text.data();
  switch (which % 10) {
    case 0:
      return member->Check("k", 1, 0, nullptr, 0, room->results.data(), room->limits.data(),
                           kEntries, sizeof(room->limits[0]), &room->count, error);
    case 1:
      return member->CheckAll(items, 2, sizeof(items[0]), 0, room->results.data(),
                              sizeof(room->results[0]), &room->count, error);
    case 2:
      return member->CheckMany(items, 2, sizeof(items[0]), 0, room->results.data(),
                               sizeof(room->results[0]), room->codes.data(), error);
    case 3:
      return member->Status("k", "", 0, room->statuses.data(), error);
    case 4:
      return member->List(nullptr, 0, 0, 0, room->statuses.data(), kEntries, kStride, text,
                          kTextBytes, &room->count, error);
    case 5:
      return member->ListPage("", 0, room->statuses.data(), kEntries, kStride, text, kTextBytes,
                              &room->count, room->cursor.data(), &room->next, error);
    case 6:
      return member->Top(0, 0, room->statuses.data(), kEntries, kStride, text, kTextBytes,
                         &room->count, error);
    case 7:
      return member->Info(&info, error);
    case 8:
      return member->History(nullptr, 0, &history, room->events.data(), kEntries,
                             sizeof(room->events[0]), text, kTextBytes, &room->count, &room->next,
                             error);
    default:
      return member->Flush(error);
  }
}

void AnswerOne(uint8_t which, std::string answer, bool hangs_up) {
  static const TemporaryDirectory directory;
  // Its thread runs to the end, so neither is ever destroyed.
  static auto* const answers = new Answers(directory.path());
  static auto* const member = new Member(
      nullptr, new Elsewhere,
      {{directory.path(), FLINT_LIMITER_SYNC_ALWAYS, kTimeoutNs}, 0, FLINT_LIMITER_ON_ERROR_RAISE});
  flint_limiter_error unopened = NoError();
  static const bool opened = member->Open(&unopened) == FLINT_LIMITER_OK;
  Require(opened);
  answers->Set(std::move(answer), hangs_up);
  Room room;
  const int32_t code = CallOne(member, which, &room);
  Require(std::memchr(room.error.message, 0, sizeof(room.error.message)) != nullptr);
  if (code != FLINT_LIMITER_OK) return;
  if (which % 10 >= 4 && which % 10 <= 6) {
    Require(room.count <= kEntries && room.next <= room.cursor.size());
    for (uint64_t i = 0; i < room.count; i++) room.RequireInText(room.statuses.at(i));
  } else if (which % 10 == 8) {
    Require(room.count <= kEntries);
    for (uint64_t i = 0; i < room.count; i++) room.RequireInText(room.events.at(i));
  }
}

void ReplyOne(uint8_t which, std::string_view body) {
  int32_t code = kStillAtIt;
  if (body.size() >= sizeof(code)) std::memcpy(&code, body.data(), sizeof(code));
  if (code == kStillAtIt) return;
  const auto length = static_cast<uint32_t>(body.size());
  std::string message(sizeof(length), '\0');
  std::memcpy(message.data(), &length, sizeof(length));
  AnswerOne(which, message.append(body), false);
}

void RunOne(std::string_view bytes) {
  const auto kind = static_cast<uint8_t>(bytes[0]);
  const auto which = static_cast<uint8_t>(bytes[1]);
  const std::string_view rest = bytes.substr(2);
  switch (kind % 4) {
    case 0:
      PerformOne(rest);
      break;
    case 1:
      SendAll(rest);
      break;
    case 2:
      ReplyOne(which, rest);
      break;
    default:
      AnswerOne(which, std::string(rest), true);
  }
}

}  // namespace
}  // namespace flint::sharing

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size >= 2) flint::sharing::RunOne({reinterpret_cast<const char*>(data), size});
  return 0;
}
